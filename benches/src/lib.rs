//! Criterion benches of the workspace live in `benches/`.
