//! What the tests share: where the built binary and the test programs are.
