"use strict";
(() => {
  const tip = document.getElementById("tip");
  let typing = false; // a key that scrolls the chart into view must not hide what it just told
  addEventListener("keydown", () => { typing = true; }, true);
  addEventListener("pointermove", () => { typing = false; }, { passive: true });
  const day = (n) => new Date(n * 864e5).toLocaleDateString("en-GB", { timeZone: "UTC", weekday: "short", day: "numeric", month: "short", year: "numeric" });
  const range = (told, i) => (told.s > 1 ? `${day(told.d + i * told.s)}, ${told.s} days` : day(told.d + i));
  const hide = () => { tip.hidden = true; document.querySelectorAll(".cursor,.cell").forEach((e) => { e.style.display = "none"; }); };
  const place = (x, y) => {
    tip.hidden = false;
    const box = tip.getBoundingClientRect(), wide = document.documentElement.clientWidth, high = window.innerHeight;
    tip.style.left = `${Math.max(8, Math.min(x + 14, wide - box.width - 8))}px`;
    const above = y - box.height - 14;
    tip.style.top = `${above > 4 ? above : Math.min(y + 18, high - box.height - 4)}px`;
  };
  const write = (title, rows, detail) => {
    tip.replaceChildren();
    tip.append(Object.assign(document.createElement("b"), { textContent: title }));
    for (const [css, name, value] of rows) {
      const row = document.createElement("span");
      row.append(Object.assign(document.createElement("i"), { className: css }), name, Object.assign(document.createElement("em"), { textContent: value }));
      tip.append(row);
    }
    if (detail) tip.append(detail);
  };
  const show = (v, f, u) => (v === null || v === undefined ? "\u2013" : (v / f).toLocaleString("en", { maximumFractionDigits: Math.round(Math.log10(f)) }) + u);

  const at = (chart, i, y) => {
    const told = chart.told, area = chart.querySelector(".area"), box = area.getBoundingClientRect(), n = told.v[0] ? told.v[0][2].length : 0;
    i = Math.max(0, Math.min(n - 1, i)); chart.index = i;
    const rows = told.v.map(([name, css, values]) => [css, name, show(values[i], told.f, told.u)]).filter((r) => told.u !== " %" || (r[2] !== "\u2013" && r[2] !== "0 %")).reverse();
    write(range(told, i), rows);
    const x = (i + .5) / n * box.width, cursor = area.querySelector(".cursor");
    cursor.style.display = "block"; cursor.style.left = `${x}px`;
    place(box.left + x, y ?? box.top + 30);
  };
  document.querySelectorAll(".chart[data-told]").forEach((chart) => {
    chart.told = JSON.parse(chart.dataset.told);
    const area = chart.querySelector(".area");
    const move = (e) => { const box = area.getBoundingClientRect(), n = chart.told.v[0] ? chart.told.v[0][2].length : 0; if (n) at(chart, Math.floor((e.clientX - box.left) / box.width * n), e.clientY); };
    area.addEventListener("pointermove", move); area.addEventListener("pointerdown", move); area.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") hide(); });
    chart.addEventListener("keydown", (e) => {
      if (e.target !== chart || !(e.key === "ArrowLeft" || e.key === "ArrowRight")) return;
      e.preventDefault(); at(chart, (chart.index ?? 0) + (e.key === "ArrowRight" ? 1 : -1));
    });
    chart.addEventListener("blur", hide);
  });

  document.querySelectorAll(".heat").forEach((heat) => {
    const told = JSON.parse(heat.dataset.heat), area = heat.querySelector(".area"), cell = heat.querySelector(".cell");
    const n = Math.max(...told.v.map((r) => r.length)), m = told.v.length;
    const pick = (col, row, x, y) => {
      col = Math.max(0, Math.min(n - 1, col)); row = Math.max(0, Math.min(m - 1, row)); heat.at = [col, row];
      const v = told.v[row][col], box = area.getBoundingClientRect();
      write(told.p[row], [[v === null ? "" : `h${[.7, .85, .95, 1.05, 1.15, 1.25, 1.5, 2].filter((e) => v / 100 >= e).length}`, range(told, col), v === null ? "no data" : `${(v / 100).toFixed(2)} x expected`]]);
      Object.assign(cell.style, { display: "block", left: `${col / n * 100}%`, top: `${row / m * 100}%`, width: `${100 / n}%`, height: `${100 / m}%` });
      place(x ?? box.left + (col + .5) / n * box.width, y ?? box.top + row / m * box.height);
    };
    const move = (e) => { const b = area.getBoundingClientRect(); pick(Math.floor((e.clientX - b.left) / b.width * n), Math.floor((e.clientY - b.top) / b.height * m), e.clientX, e.clientY); };
    area.addEventListener("pointermove", move); area.addEventListener("pointerdown", move); area.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") hide(); });
    heat.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
      if (!step) return;
      e.preventDefault(); const [c, r] = heat.at ?? [-step[0], -step[1]]; pick(c + step[0], r + step[1]);
    });
    heat.addEventListener("blur", hide);
  });

  const tell = (e, x, y) => { const box = e.getBoundingClientRect(); write(e.dataset.t, [], e.dataset.d); place(x ?? box.left + box.width / 2, y ?? box.top); };
  // fingers are wider than marks: within a strip the nearest mark answers, then the span under the finger
  const nearest = (strip, x) => {
    let best = null, gap = 16;
    strip.querySelectorAll(".mark").forEach((m) => { const b = m.getBoundingClientRect(), d = Math.abs(b.left + b.width / 2 - x); if (d < gap) { gap = d; best = m; } });
    return best ?? [...strip.querySelectorAll(".span")].find((s) => { const b = s.getBoundingClientRect(); return b.left <= x && x <= b.right; });
  };
  document.querySelectorAll(".strip").forEach((strip) => {
    const on = (e) => { const found = nearest(strip, e.clientX); if (found) tell(found, e.clientX, strip.getBoundingClientRect().top); else hide(); };
    strip.addEventListener("pointermove", on); strip.addEventListener("pointerdown", on); strip.addEventListener("pointerleave", (e) => { if (e.pointerType === "mouse") hide(); });
  });
  document.querySelectorAll("[data-t]").forEach((e) => {
    e.addEventListener("focus", () => tell(e)); e.addEventListener("blur", hide);
    if (e.tagName === "BUTTON") e.setAttribute("aria-label", `${e.dataset.t}. ${e.dataset.d ?? ""}`);
    if (!e.closest(".strip")) { e.addEventListener("pointerenter", () => tell(e)); e.addEventListener("pointerleave", (x) => { if (x.pointerType === "mouse") hide(); }); e.addEventListener("click", () => tell(e)); }
  });
  const align = () => document.querySelectorAll(".heat").forEach((h) => h.nextElementSibling.style.setProperty("--names", `${h.querySelector(".area").offsetLeft - h.offsetLeft}px`));
  document.querySelectorAll("[role=tab]").forEach((tab) => tab.addEventListener("click", () => {
    document.querySelectorAll("[role=tab]").forEach((t) => t.setAttribute("aria-selected", String(t === tab)));
    document.querySelectorAll("article").forEach((a) => { a.hidden = a.dataset.story !== tab.dataset.story; });
    align();
  }));
  addEventListener("keydown", (e) => { if (e.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (!typing) hide(); }, { passive: true }); addEventListener("resize", () => { hide(); align(); });
  addEventListener("pointerdown", (e) => { if (!e.target.closest(".chart,.heat,[data-t]")) hide(); });
  align();
})();
