"""The only place that imports CatBoost and joblib."""
