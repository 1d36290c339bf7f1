//! `seal verify` against a controller: what is asked, and what each answer means.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    thread::JoinHandle,
};

use self::support::{Folder, Run};

const YES: &str = r#"{"ok":true}"#;

/// Answers one request with each of these, and gives what was asked last.
fn answering(answers: &[(&str, &str)]) -> (String, JoinHandle<(String, serde_json::Value)>) {
    let answer = |(status, body): &(&str, &str)| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{body}")
    };
    serving(answers.iter().map(answer).collect())
}

/// As the API server answers: it does not say when to ask again.
fn answering_once(status: &str, body: &str) -> (String, JoinHandle<(String, serde_json::Value)>) {
    let length = body.len();
    serving(vec![format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")])
}

fn serving(answers: Vec<String>) -> (String, JoinHandle<(String, serde_json::Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let asked: Vec<_> = answers.iter().map(|answer| asked_once(&listener, answer)).collect();
        asked.into_iter().next_back().unwrap()
    });
    (url, asked)
}

fn asked_once(listener: &TcpListener, answer: &str) -> (String, serde_json::Value) {
    let mut stream = BufReader::new(listener.accept().unwrap().0);
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut first).unwrap();
    while stream.read_line(&mut line).unwrap() > 2 {
        let (name, value) = line.split_once(':').unwrap();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    stream.get_mut().write_all(answer.as_bytes()).unwrap();
    (first.trim().to_owned(), serde_json::from_slice(&body).unwrap())
}

fn sealed() -> Folder {
    let folder = Folder::new();
    folder.ring("prod", &["eu", "recovery"]);
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {password: hunter2}\n";
    folder.seal_with_stdin(&["-w", "sealed.yaml"], secret.as_bytes()).succeeds();
    folder
}

fn verify(folder: &Folder, url: &str) -> Run {
    folder.seal(&["verify", "sealed.yaml", "--controller-url", url])
}

#[test]
fn the_whole_object_and_its_place_are_asked_about() {
    let folder = sealed();
    let (url, asked) = answering(&[("200 OK", YES)]);
    assert_eq!(verify(&folder, &url).succeeds().stdout(), "yes  sealed.yaml: shop/db\n");
    let (request, body) = asked.join().unwrap();
    assert_eq!(request, "POST /v1/verify HTTP/1.1");
    assert_eq!(body["metadata"], serde_json::json!({"name": "db", "namespace": "shop"}));
    assert_eq!(body["spec"]["sealedFor"]["name"], "db");
    assert!(body["spec"]["encryptedData"]["password"].as_str().unwrap().starts_with("seal1."));
}

#[test]
fn no_is_no_and_everything_else_is_no_answer() {
    let folder = sealed();
    let (url, asked) = answering(&[("422 Unprocessable Entity", r#"{"ok":false}"#)]);
    let run = verify(&folder, &url);
    assert_eq!((run.code, run.stdout()), (1, "no   sealed.yaml: shop/db\n"));
    assert!(run.stderr.contains("1 of 1 SealedSecrets would not open"), "{}", run.stderr);
    asked.join().unwrap();

    for (status, body, message) in [
        ("400 Bad Request", r#"{"error":"the body is odd"}"#, "answered 400 Bad Request: the body is odd"),
        ("500 Internal Server Error", "", "answered 500"),
        ("413 Payload Too Large", "", "answered 413"),
        ("200 OK", "<html>a login page</html>", "answered 200 OK"),
        (
            "404 Not Found",
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no such service","code":404}"#,
            "answered 404 Not Found: no such service",
        ),
    ] {
        let (url, asked) = answering(&[(status, body)]);
        verify(&folder, &url).fails(1, message);
        asked.join().unwrap();
    }
}

#[test]
fn a_busy_controller_is_asked_again_when_it_says() {
    let folder = sealed();
    let (url, asked) = answering(&[("429 Too Many Requests", ""), ("503 Service Unavailable", ""), ("200 OK", YES)]);
    verify(&folder, &url).succeeds();
    asked.join().unwrap();

    let (url, asked) = serving(vec!["HTTP/1.1 429 No\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n".to_owned()]);
    verify(&folder, &url).fails(1, "answered 429");
    asked.join().unwrap();
}

#[test]
fn a_controller_that_is_not_there_is_told_within_seconds() {
    let folder = sealed();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    verify(&folder, &format!("http://{closed}")).fails(1, "refused").hints("is a controller running there");
    verify(&folder, "localhost").fails(2, "--controller-url is not a URL").hints("http://");
    folder.seal(&["verify", "sealed.yaml"]).fails(1, "no usable kubeconfig").hints("KUBECONFIG");
    folder.seal(&["verify", "sealed.yaml", "--context", "x"]).fails(1, "no usable kubeconfig");
}

#[test]
fn an_unknown_context_is_told_with_those_that_there_are() {
    let folder = sealed();
    kubeconfig(&folder, "http://127.0.0.1:9");
    folder
        .seal(&["init", "--from-cluster", "--context", "prod-ue"])
        .fails(1, "no context `prod-ue`")
        .hints("`prod-eu`");
    folder.seal(&["init", "--from-cluster"]).fails(1, "cannot list the KeyRings").hints("right context");
}

#[test]
fn a_user_and_a_password_in_a_url_are_never_printed() {
    let folder = sealed();
    verify(&folder, "http://user:hunter2@127.0.0.1:9").fails(2, "a user or a password").hints("leave them out");
    kubeconfig(&folder, "http://user:hunter2@127.0.0.1:9/there");
    for arguments in [&["verify", "sealed.yaml"][..], &["init", "--from-cluster"]] {
        let run = folder.seal(arguments).fails(1, "http://127.0.0.1:9/there");
        assert!(!run.stderr.contains("user") && !run.stderr.contains("hunter2"), "{}", run.stderr);
    }
}

/// A kubeconfig whose cluster is at this address.
fn kubeconfig(folder: &Folder, url: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{url}'}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: [{{name: prod-eu, context: {{cluster: c, user: u}}}}]\ncurrent-context: prod-eu\n"
    );
    folder.write("no-kubeconfig", text);
}

#[test]
fn what_the_api_server_answers_in_the_controllers_place_has_advice_of_its_own() {
    let folder = sealed();
    let status = |code: u16, message: &str| {
        format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}","code":{code}}}"#)
    };
    for (first, body, hint) in [
        ("404 Not Found", status(404, "endpoints not found"), "no Service `seal-controller` in `sealwright-system`"),
        ("503 Service Unavailable", status(503, "no endpoints available"), "no controller behind the Service is ready"),
        ("403 Forbidden", status(403, "no"), "services/proxy"),
        ("404 Not Found", "404 page not found".to_owned(), "no seal-controller, or one of another version"),
    ] {
        let (url, asked) = answering_once(first, &body);
        kubeconfig(&folder, &url);
        folder.seal(&["verify", "sealed.yaml"]).fails(1, &format!("answered {}", &first[..3])).hints(hint);
        let (request, _) = asked.join().unwrap();
        let service = "/api/v1/namespaces/sealwright-system/services/http:seal-controller:http/proxy/v1/verify";
        assert_eq!(request, format!("POST {service} HTTP/1.1"));
    }
}

#[test]
fn a_verdict_is_the_same_whether_anybody_reads_it_or_not() {
    let folder = sealed();
    folder.write("moved.yaml", folder.read("sealed.yaml").replace("password", "passwort"));
    let script =
        format!("{{ {} verify moved.yaml -i eu.txt; echo \"code $?\" >&2; }} | true", env!("CARGO_BIN_EXE_seal"));
    let run = support::run(folder.command("sh").args(["-c", &script]), b"");
    assert!(run.stderr.ends_with("code 1\n"), "{}", run.stderr);
}
