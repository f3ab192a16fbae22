//! What proves a backend right: the conformance suite, and the rig of namespaces that it runs on.
