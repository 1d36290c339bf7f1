use super::*;

fn rendered(values: &[(&str, &[u8])], source: &str) -> Result<Vec<u8>, Failure> {
    Renderer::new(values.iter().copied()).render("key", source).map(|bytes| bytes.to_vec())
}

fn reason(source: &str) -> Reason {
    rendered(&[("p", b"secret")], source).unwrap_err().reason
}

#[test]
fn a_failure_names_key_line_and_column() {
    for (source, line, column, reason) in [
        ("{{ .absent }}", 1, 4, Reason::MissingKey),
        ("a\nbé{{ .p }}{{ .absent }}", 2, 14, Reason::MissingKey),
        ("{{ nosuch }}", 1, 4, Reason::UnknownFunction),
        ("x\n  {{ .p | upper | nosuch }}", 2, 19, Reason::UnknownFunction),
        ("{{ index .p (index .p 0) }}", 1, 4, Reason::ExecutionFailed),
        ("{{ .p | int | div 1 }}", 1, 15, Reason::ExecutionFailed),
        ("{{ if .p }}\n{{ .p }", 2, 7, Reason::ParseError),
        ("a{{ end }}", 1, 2, Reason::ParseError),
        ("{{ range .p }}{{ end }}", 1, 4, Reason::ExecutionFailed),
        ("{{ upper (index . \"q\") }}", 1, 4, Reason::ExecutionFailed),
    ] {
        let failure = rendered(&[("p", b"secret")], source).unwrap_err();
        let expected = Failure { key: "key".into(), line, column, reason };
        assert_eq!(failure, expected, "{source}");
    }
    let failure = rendered(&[], "{{ .absent }}").unwrap_err();
    assert_eq!(failure.to_string(), "template of key `key`, line 1, column 4: missing key");
}

#[test]
fn values_are_bytes_and_stay_so() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(rendered(&[("b", &bytes)], "{{ .b }}").unwrap(), bytes);
    assert_eq!(rendered(&[("b", &bytes)], "{{ .b | b64enc | b64dec }}").unwrap(), bytes);
    assert_eq!(rendered(&[("b", &bytes)], "{{ len .b }}").unwrap(), b"256");
}

#[test]
fn work_is_bounded_however_it_is_asked_for() {
    let doubling = "{{ define \"a0\" }}{{ end }}".to_owned()
        + &(1..80)
            .map(|i| {
                format!(
                    "{{{{ define \"a{i}\" }}}}{{{{ template \"a{0}\" }}}}{{{{ template \"a{0}\" }}}}{{{{ end }}}}",
                    i - 1
                )
            })
            .collect::<String>()
        + "{{ template \"a79\" }}";
    for source in [
        "{{ range until 100000000 }}{{ end }}",
        "{{ range 100000000 }}{{ end }}",
        "{{ range 10000 }}{{ range 10000 }}{{ end }}{{ end }}",
        "{{ untilStep 0 9223372036854775807 1 }}",
        "{{ seq 100000000 }}",
        "{{ define \"r\" }}{{ template \"r\" }}{{ end }}{{ template \"r\" }}",
        &doubling,
        "{{ $l := list 1 }}{{ range 1000 }}{{ $l = list $l }}{{ end }}",
        "{{ $l := dict }}{{ range 1000 }}{{ $l = dict \"x\" $l }}{{ end }}",
        "{{ $l := list 1 }}{{ range 40 }}{{ $l = list $l $l }}{{ end }}{{ deepEqual $l $l }}",
        "{{ $l := list 1 }}{{ range 60 }}{{ $l = concat $l $l }}{{ end }}",
        "{{ $s := repeat 500000 \"a\" }}{{ range 1000 }}{{ $x := sha256sum $s }}{{ end }}",
        "{{ $s := repeat 500000 \"a\" }}{{ range 1000 }}{{ $x := regexFindAll \".*b|a\" $s -1 }}{{ end }}",
        "{{ $s := repeat 200000 \"a\" }}{{ regexFindAll \".*b|a\" $s -1 | len }}",
        "{{ range $i := until 5000 }}{{ $x := regexMatch (print \"(a{1,20}){1,20}\" $i) \"a\" }}{{ end }}",
        "{{ range until 100000 }}{{ $x := upper $.p }}{{ $y := printf \"%4000d\" 1 }}{{ end }}",
        "{{ $l := until 5000 }}{{ range 50 }}{{ $x := uniq $l }}{{ end }}",
        "{{ $s := repeat 500000 \"1\" }}{{ range 1000 }}{{ $x := float64 $s }}{{ end }}",
        "{{ $s := repeat 500000 \"1\" }}{{ range 1000 }}{{ $x := int $s }}{{ end }}",
        "{{ $s := repeat 500000 \"1\" }}{{ range 1000 }}{{ $x := max $s $s }}{{ end }}",
        "{{ $s := repeat 500000 \"1\" }}{{ range 1000 }}{{ $x := index (dict $s 1) $s }}{{ end }}",
        "{{ $s := repeat 500000 \"1\" }}{{ range 1000 }}{{ $x := dig $s 1 (dict $s 1) }}{{ end }}",
        "{{ fromJson (printf \"%s1%s\" (repeat 100 \"[\") (repeat 100 \"]\")) }}",
    ] {
        assert_eq!(reason(source), Reason::TooMuchWork, "{}", &source[..source.len().min(80)]);
    }
}

#[test]
fn output_is_bounded() {
    for source in [
        "{{ repeat 1048577 \"a\" }}",
        "{{ $l := list 1 }}{{ range 40 }}{{ $l = list $l $l }}{{ end }}{{ $l }}",
        "{{ $l := list 1 }}{{ range 40 }}{{ $l = list $l $l }}{{ end }}{{ toJson $l }}",
        "{{ repeat 9223372036854775807 .p }}",
        "{{ $s := repeat 600000 \"a\" }}{{ $s }}{{ $s }}",
        "{{ $s := \"a\" }}{{ range 30 }}{{ $s = print $s $s }}{{ end }}",
        "{{ indent 9223372036854775807 \"a\" }}",
        "{{ $s := repeat 300000 \"ab\" }}{{ replace \"a\" \"cccc\" $s }}",
        "{{ $s := repeat 300000 \"ab\" }}{{ regexReplaceAll \".*\" $s \"$0$0$0\" }}",
        "{{ join (repeat 1000 \"a\") (until 2000) }}",
    ] {
        assert_eq!(reason(source), Reason::OutputTooLarge, "{source}");
    }
}

#[test]
fn all_keys_of_an_object_share_the_bounds() {
    let mut renderer = Renderer::new([]);
    assert_eq!(renderer.render("a", "{{ repeat 600000 \"a\" }}").unwrap().len(), 600_000);
    assert_eq!(renderer.render("b", "{{ repeat 600000 \"a\" }}").unwrap_err().reason, Reason::OutputTooLarge);

    let mut renderer = Renderer::new([]);
    let mut rendered = 0;
    while renderer.render("k", "{{ range 10000 }}{{ end }}").is_ok() {
        rendered += 1;
    }
    assert!((10..1000).contains(&rendered), "{rendered} renderings fit into one budget");
}

#[test]
fn ordinary_work_on_the_largest_values_fits() {
    let value = vec![b'x'; 700_000];
    let output = rendered(&[("v", &value)], "{{ .v | b64enc }}").unwrap();
    assert_eq!(output.len(), 933_336);
    let output = rendered(&[("v", &value)], "{{ .v | upper | sha256sum }}{{ .v | quote | len }}").unwrap();
    assert!(output.ends_with(b"700002"));
    let lines = b"key=value\n".repeat(2000);
    let output = rendered(&[("v", &lines)], "{{ range splitList \"\\n\" .v }}{{ . | quote }},{{ end }}").unwrap();
    assert_eq!(output.len(), 2000 * 12 + 3);
}

/// Worker threads have 2 MiB; a build without optimisation must fit into half of it.
#[test]
fn the_deepest_nesting_fits_a_small_stack() {
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
    let sources = [
        deep("{{ if 1 }}", "{{ end }}", 95),
        deep("{{ if 1 }}", "{{ end }}", 100_000),
        "{{ if 0 }}".to_owned() + &"{{ else if 0 }}".repeat(95) + "{{ end }}",
        "{{ if 0 }}".to_owned() + &"{{ else if 0 }}".repeat(50_000) + "{{ end }}",
        format!("{{{{ {} }}}}", deep("(", ")", 95)),
        format!("{{{{ {} }}}}", deep("(", ")", 200_000)),
        "{{ define \"r\" }}".to_owned()
            + &deep("{{ if 1 }}", "{{ end }}", 90).replacen("1{{ end }}", "{{ template \"r\" }}{{ end }}", 1)
            + "{{ end }}{{ template \"r\" }}",
        "{{ define \"r\" }}{{ if 1 }}{{ with list 1 }}{{ range . }}{{ template \"r\" }}{{ end }}{{ end }}{{ end }}{{ end }}{{ template \"r\" }}".to_owned(),
        "{{ $l := list 1 }}{{ range 60 }}{{ $l = list $l }}{{ end }}{{ $l }}{{ toPrettyJson $l }}{{ deepEqual $l $l }}{{ printf \"%d\" $l }}".to_owned(),
        format!("{{{{ fromJson `{}` }}}}", deep("[", "]", 60)),
        format!("{{{{ mustRegexMatch `{}` `1` }}}}", deep("(", ")", 60)),
        format!("{{{{ mustRegexMatch `{}` `1` }}}}", deep("(", ")", 100_000)),
    ];
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        sources.map(|source| rendered(&[], &source).map_err(|failure| failure.reason)).map(|result| result.is_ok())
    });
    let outcomes = thread.unwrap().join().unwrap();
    assert_eq!(outcomes, [true, false, true, false, true, false, false, false, true, true, true, false]);
}

/// Broken sources of every kind end in a failure or in bytes, never in a panic.
#[test]
fn no_source_panics() {
    let seeds = [
        "{{ define \"a\" }}{{ .p }}{{ end }}{{ template \"a\" . }}",
        "{{- range $i, $e := splitList \",\" .p -}}{{ if eq $i 1 }}{{ continue }}{{ else }}{{ printf \"%[1]*.2q|%-5x\" 3 $e }}{{ end }}{{ end }}",
        "{{ with $x := dict \"a\" (list 1 2.5 'c' nil true) }}{{ $x.a | toJson | b64enc | trunc -3 }}{{ else }}{{/* c */}}{{ end }}",
        "{{ regexReplaceAll \"[^\\\\w&&[:alpha:]]+(a|b)?\" .p \"${1}x\" | urlquery }}{{ urlParse \"a://b:c@[::1]:1/%41?d#e\" }}",
    ];
    let alphabet = [
        "{{", "}}", "-", " ", "(", ")", "\"", "`", "'", "\\", "$", ".", "|", ":=", "=", ",", "é", "0", "1e9", "end",
        "else", "if", "\n", "%", "[", "]", "\u{0}",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(bound).unwrap()).unwrap()
    };
    let mut outcomes = [0, 0];
    for _ in 0..20_000 {
        let mut source: Vec<char> = seeds[next(seeds.len())].chars().collect();
        for _ in 0..=next(3) {
            let at = next(source.len() + 1);
            match next(3) {
                0 if at < source.len() => drop(source.remove(at)),
                1 => drop(source.splice(at..at, alphabet[next(alphabet.len())].chars())),
                _ => source.truncate(at.max(source.len() / 2)),
            }
        }
        let source: String = source.into_iter().collect();
        outcomes[usize::from(rendered(&[("p", b"a,b\xff,c")], &source).is_ok())] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 500), "{outcomes:?}: the sources are all of one kind");
}
