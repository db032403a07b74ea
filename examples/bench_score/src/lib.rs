//! What tests of other parts use of the benchmark.

pub mod xplane;
