//! Forging, cloning, reusing or skipping a proof is refused by the compiler.

#[test]
fn no_way_around_the_proofs_compiles() {
    trybuild::TestCases::new().compile_fail("tests/cases/*.rs");
}
