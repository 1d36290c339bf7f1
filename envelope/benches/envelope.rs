//! What each act costs, and how that compares with a peer in the same run: `cargo bench -p seal-envelope`.
//!
//! Absolute times belong to a machine; ratios travel. So each act and its peers take turns, in many short rounds, and
//! the medians of the rounds are compared. Budget: opening a value takes under 300 us.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    hint::black_box,
    io::{Read, Write},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing};
use ring::{rand::SystemRandom, rsa, signature::RSA_PKCS1_SHA256};
use seal_envelope::{DataKey, Identity, MAX_VALUE, Place, Recipient, RingKey, SealedFor, Token, open, seal};

const ROUNDS: usize = 60;
const ROUND: Duration = Duration::from_millis(8);

struct Contender<'a> {
    name: &'static str,
    act: Box<dyn FnMut() + 'a>,
    rounds: Vec<f64>,
}

fn contender<'a, T>(name: &'static str, mut act: impl FnMut() -> T + 'a) -> Contender<'a> {
    Contender { name, act: Box::new(move || drop(black_box(act()))), rounds: Vec::new() }
}

/// Prints one line for each; the first is ours, and the ratio of the others is theirs to ours.
fn compare<const N: usize>(title: &str, mut contenders: [Contender<'_>; N]) {
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            let start = Instant::now();
            let mut times = 0_u32;
            while times == 0 || start.elapsed() < ROUND {
                (contender.act)();
                times += 1;
            }
            contender.rounds.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(times));
        }
    }
    println!("{title}");
    let mut ours = None;
    for Contender { name, mut rounds, .. } in contenders {
        rounds.sort_by(f64::total_cmp);
        let (median, low, high) = (rounds[ROUNDS / 2], rounds[ROUNDS / 20], rounds[ROUNDS - ROUNDS / 20]);
        let ratio = median / *ours.get_or_insert(median);
        println!("  {name:<44} {median:>9.1} us   x {ratio:<6.2} (5 % .. 95 %: {low:.1} .. {high:.1})");
    }
}

fn main() {
    let ring_key = RingKey::generate().unwrap();
    let sealed_for = SealedFor::new(Some("db"), ["shop"]).unwrap();
    let key = DataKey::new("password").unwrap();
    let place = Place::new("shop", "db").unwrap();
    let public = ring_key.recipient();

    // The same suite with hpke's own X-Wing, which expands the seed at every opening.
    let (peer_private, peer_public) = <XWing as hpke::Kem>::derive_keypair(&[7; 32]);
    let info = sealed_for.ctx(&key);
    let peer_seal = |value: &[u8]| {
        hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeS::Base, &peer_public, &info, value, b"")
            .unwrap()
    };
    let peer_open = |enc: &[u8], ciphertext: &[u8]| {
        let enc = Deserializable::from_bytes(enc).unwrap();
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &peer_private,
            &enc,
            &info,
            ciphertext,
            b"",
        )
        .unwrap()
    };

    let rsa = rsa::KeyPair::from_der(include_bytes!("rsa-4096.der")).unwrap();
    let random = SystemRandom::new();
    let mut signature = vec![0; rsa.public().modulus_len()];

    let token = seal(public, &sealed_for, &key, b"hunter2").unwrap();
    let (enc, ciphertext) = peer_seal(&[0; 64]);
    let enc = enc.to_bytes();
    compare(
        "open a value of 7 bytes",
        [
            contender("seal-envelope", || open(&ring_key, &sealed_for, &key, &place, &token).unwrap()),
            contender("hpke, its own X-Wing", || peer_open(&enc, &ciphertext)),
            contender("RSA-4096 private operation (ring)", || {
                rsa.sign(&RSA_PKCS1_SHA256, &random, b"", &mut signature).unwrap();
            }),
        ],
    );

    let large = vec![7; MAX_VALUE];
    let token_of_large = seal(public, &sealed_for, &key, &large).unwrap();
    let (enc, ciphertext) = peer_seal(&large);
    let enc = enc.to_bytes();
    compare(
        "open a value of 1 MiB",
        [
            contender("seal-envelope", || open(&ring_key, &sealed_for, &key, &place, &token_of_large).unwrap()),
            contender("hpke, its own X-Wing", || peer_open(&enc, &ciphertext)),
        ],
    );

    compare(
        "seal a value of 7 bytes",
        [
            contender("seal-envelope", || seal(public, &sealed_for, &key, b"hunter2").unwrap()),
            contender("hpke, its own X-Wing", || peer_seal(&[0; 64])),
        ],
    );

    let text = token.to_string();
    let payload = text.rsplit('.').next().unwrap();
    let text_of_large = token_of_large.to_string();
    let large_payload = text_of_large.rsplit('.').next().unwrap();
    compare(
        "parse a token of 7 bytes",
        [
            contender("seal-envelope", || text.parse::<Token>().unwrap()),
            contender("base64 of the payload alone", || BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()),
        ],
    );
    compare(
        "parse a token of 1 MiB",
        [
            contender("seal-envelope", || text_of_large.parse::<Token>().unwrap()),
            contender("base64 of the payload alone", || BASE64_URL_SAFE_NO_PAD.decode(large_payload).unwrap()),
        ],
    );

    let member = Identity::generate().unwrap();
    let wrap = ring_key.wrap(member.recipient()).unwrap();
    let classic = age::x25519::Identity::generate();
    let mut classic_wrap = Vec::new();
    let recipient = classic.to_public();
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
    let mut writer = encryptor.wrap_output(&mut classic_wrap).unwrap();
    writer.write_all(&[7; 78]).unwrap();
    writer.finish().unwrap();
    compare(
        "unwrap a ring key",
        [
            contender("seal-envelope", || RingKey::unwrap(&wrap, &member, public).unwrap()),
            contender("age, to its classic X25519", || {
                let decryptor = age::Decryptor::new_buffered(&*classic_wrap).unwrap();
                let mut reader = decryptor.decrypt(std::iter::once(&classic as &dyn age::Identity)).unwrap();
                let mut plaintext = Vec::new();
                reader.read_to_end(&mut plaintext).unwrap();
                plaintext
            }),
        ],
    );

    let (recipient, identity) = (public.to_string(), member.to_secret_string());
    compare(
        "read a key",
        [
            contender("a recipient", || recipient.parse::<Recipient>().unwrap()),
            contender("an identity, expanded once for all", || Identity::parse(&identity).unwrap()),
        ],
    );
}
