//! Sessions as a person sees them: `tests/transcripts/*.trycmd`. Tokens are random, so `[..]` stands for them.

#[test]
fn transcripts() {
    trycmd::TestCases::new().default_bin_name("seal").case("tests/transcripts/*.trycmd");
}
