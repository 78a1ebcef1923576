//! Code that must not compile: ways to end an instance or to deregister a runner without an established ground. The
//! cases are in `tests/cases/`, what the compiler says of each beside it.
