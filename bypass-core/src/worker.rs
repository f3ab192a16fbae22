//! One thread per core, each with a backend queue of its own.
