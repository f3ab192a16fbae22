//! What to do when there is nothing to do: spin, sleep, or spin and then sleep.
