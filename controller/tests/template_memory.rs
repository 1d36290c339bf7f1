//! What rendering takes in memory, whatever a template asks for: a file of its own, so that nothing else counts.

use std::fs;

use seal_controller::template::Renderer;

/// The most memory that this process ever had, in KiB.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn no_template_takes_more_than_its_share_of_memory() {
    const SHARE: usize = 40 << 10;
    let keys: Vec<String> = (0..880).map(|number| format!("key-{number}")).collect();
    let small: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), b"x".as_slice())).collect();
    let members: Vec<String> = (0..40_000).map(|number| format!("\"{number}\":0")).collect();
    let dict = format!("{{{}}}", members.join(","));
    let objects = format!("[{}]", vec!["{\"\":0}"; 100_000].join(","));
    let (commas, digits) = (",".repeat(1_000_000), "7".repeat(1_000_000));
    let patterns = "{{ range $i := until 250 }}{{ $x := regexMatch (print \"a{1,2000}\" $i) \"a\" }}{{ end }}";
    for (values, source) in [
        (small.as_slice(), format!("{{{{ len (keys{}) }}}}", " .".repeat(50_000))),
        (&[("b", dict.as_bytes())], format!("{{{{ $d := fromJson .b }}}}{{{{ len (keys{}) }}}}", " $d".repeat(1_000))),
        (&[("b", objects.as_bytes())], "{{ len (fromJson .b) }}".to_owned()),
        (&[("b", commas.as_bytes())], "{{ len (splitList \",\" .b) }}".to_owned()),
        (&[("b", commas.as_bytes())], "{{ len (regexSplit \",\" .b -1) }}".to_owned()),
        (&[("b", commas.as_bytes())], "{{ len (split \",\" .b) }}".to_owned()),
        (&[], format!("{{{{ len (list{}) }}}}", " .".repeat(500_000))),
        (&[], "{{ len (until 100000000) }}".to_owned()),
        (&[], "{{ len (toStrings (until 100000)) }}".to_owned()),
        (&[], patterns.to_owned()),
        (&[("b", digits.as_bytes())], "{{ range 1000 }}{{ $x := float64 $.b }}{{ end }}".to_owned()),
    ] {
        let before = peak();
        // However it ends.
        let _ = Renderer::new(values.iter().copied()).render("key", &source);
        let took = peak() - before;
        assert!(took < SHARE, "{took} KiB for {}", &source[..source.len().min(60)]);
    }
}
