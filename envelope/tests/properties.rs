//! What must hold for every input: what was sealed opens where it belongs and nowhere else, one changed bit is refused,
//! each thing has one spelling, and no input makes a parser panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{str::FromStr, sync::LazyLock};

use proptest::{collection, option, prelude::*, sample};
use regex::Regex;
use seal_envelope::{
    BindingError, DataKey, Identity, KeyId, MAX_KEYS, MAX_MEMBERS, MAX_NAMESPACES, MAX_VALUE, Member, OpenError, Place,
    Recipient, Ring, RingError, RingKey, SealedFor, Token, TokenError, open, seal,
};

static RING_KEYS: LazyLock<[RingKey; 2]> = LazyLock::new(|| [(); 2].map(|()| RingKey::generate().unwrap()));
static MEMBER: LazyLock<Identity> = LazyLock::new(|| Identity::generate().unwrap());

/// The rules of Kubernetes, in its own words (`apimachinery/pkg/util/validation`).
static SUBDOMAIN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\z").unwrap());
static LABEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[a-z0-9]([-a-z0-9]*[a-z0-9])?\z").unwrap());
static DATA_KEY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[-._a-zA-Z0-9]+\z").unwrap());

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A place to seal for, with one Secret that it admits.
#[derive(Clone, Debug)]
struct Belonging {
    sealed_for: SealedFor,
    key: DataKey,
    place: Place,
}

/// Few short names, so that pairs that differ in one part only are common.
fn belonging() -> impl Strategy<Value = Belonging> {
    let name = option::of("[ab](\\.[ab])?");
    let namespaces = collection::btree_set("[ab][ab-]?[ab]", 0..4);
    (name, namespaces, "[ab]{1,2}").prop_map(|(name, namespaces, key)| Belonging {
        sealed_for: SealedFor::new(name.as_deref(), &namespaces).unwrap(),
        key: DataKey::new(&key).unwrap(),
        place: Place::new(namespaces.first().map_or("anywhere", String::as_str), name.as_deref().unwrap_or("any"))
            .unwrap(),
    })
}

/// Lengths at and around every kind of bucket border, and any other up to some buckets.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let borders = [0, 1, 59, 60, 61, 124, 125, 508, 2044, 2045, 4091, 4092, 4093, 5116, 5117, 65_532, 65_533];
    prop_oneof![
        3 => (0_usize..6000).boxed(),
        3 => sample::select(borders.to_vec()).boxed(),
        1 => (MAX_VALUE - 3..=MAX_VALUE).boxed(),
    ]
    .prop_flat_map(|length| (Just(length), any::<u8>()))
    .prop_map(|(length, first)| (0..length).map(|i| first.wrapping_add((i % 251) as u8)).collect())
}

fn sealed(belonging: &Belonging, value: &[u8]) -> Token {
    seal(RING_KEYS[0].recipient(), &belonging.sealed_for, &belonging.key, value).unwrap()
}

fn opened(belonging: &Belonging, token: &Token) -> Result<Vec<u8>, OpenError> {
    open(&RING_KEYS[0], &belonging.sealed_for, &belonging.key, &belonging.place, token).map(|value| value.to_vec())
}

/// What the length of the frame must be, said in another way than the code says it.
fn bucket(framed: usize) -> usize {
    let powers = (6..=12).map(|power| 1 << power);
    powers.chain((5..).map(|steps| steps * 1024)).find(|bucket| *bucket >= framed).unwrap()
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn a_value_opens_where_it_was_sealed_for(belonging in belonging(), value in value()) {
        let token = sealed(&belonging, &value);
        let text = token.to_string();
        prop_assert_eq!(token.bucket(), bucket(4 + value.len()));
        prop_assert_eq!(text.len(), 48 + ((1120 + token.bucket() + 16) * 4).div_ceil(3));
        let read: Token = text.parse().unwrap();
        prop_assert!(read == token);
        prop_assert!(opened(&belonging, &read) == Ok(value));
    }

    #[test]
    fn two_sealings_of_one_value_share_no_payload(belonging in belonging()) {
        let payload = |token: &Token| token.to_string().rsplit('.').next().unwrap().to_owned();
        prop_assert_ne!(payload(&sealed(&belonging, b"x")), payload(&sealed(&belonging, b"x")));
    }

    #[test]
    fn a_transplanted_value_is_refused(from in belonging(), to in belonging()) {
        let token = sealed(&from, b"hunter2");
        let moved = Belonging { place: to.place.clone(), ..from.clone() };
        if from.sealed_for.admits(&to.place).is_err() {
            prop_assert!(matches!(opened(&moved, &token), Err(OpenError::Place(_))));
        }
        if (&from.sealed_for, &from.key) != (&to.sealed_for, &to.key) {
            prop_assert!(opened(&to, &token) == Err(OpenError::Moved));
            // And whoever mends the lint does not get past HPKE.
            let text = token.to_string().replace(&format!(".{}.", token.place()), &format!(".{}.", to.sealed_for.tag(&to.key)));
            prop_assert!(opened(&to, &text.parse().unwrap()) == Err(OpenError::Forged));
        }
    }

    #[test]
    fn a_value_opens_with_no_other_ring_key(belonging in belonging()) {
        let token = sealed(&belonging, b"hunter2");
        let [ours, other] = &*RING_KEYS;
        let open = |token: &Token| open(other, &belonging.sealed_for, &belonging.key, &belonging.place, token).map(drop);
        prop_assert_eq!(open(&token), Err(OpenError::OtherKey { sealed_to: ours.id() }));
        let renamed = token.to_string().replace(&ours.id().to_string(), &other.id().to_string());
        prop_assert_eq!(open(&renamed.parse().unwrap()), Err(OpenError::Forged));
    }

    #[test]
    fn one_changed_bit_of_a_large_value_is_refused(belonging in belonging(), bit in any::<sample::Index>()) {
        let text = sealed(&belonging, &[7; 20_000]).to_string();
        let mut bytes = text.into_bytes();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let changed = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        prop_assert!(changed.is_none_or(|token| opened(&belonging, &token).is_err()));
    }
}

#[test]
fn a_value_of_the_largest_size_opens_and_one_more_byte_is_refused() {
    let belonging = Belonging {
        sealed_for: SealedFor::new(Some("db"), ["shop"]).unwrap(),
        key: DataKey::new("blob").unwrap(),
        place: Place::new("shop", "db").unwrap(),
    };
    let value = vec![0xa5; MAX_VALUE + 1];
    let token = sealed(&belonging, &value[..MAX_VALUE]);
    assert_eq!(token.to_string().len(), seal_envelope::MAX_TOKEN);
    assert!(opened(&belonging, &token).unwrap() == value[..MAX_VALUE]);
    assert!(seal(RING_KEYS[0].recipient(), &belonging.sealed_for, &belonging.key, &value).is_err());
    // Before anything is decoded: what is wrong with the rest of it does not show.
    let longer = format!("{token}!");
    assert_eq!(longer.parse::<Token>(), Err(TokenError::Length));
}

/// Exhaustive: all bits of all characters.
#[test]
fn every_single_bit_of_a_token_counts() {
    let belonging = Belonging {
        sealed_for: SealedFor::new(Some("db"), ["shop"]).unwrap(),
        key: DataKey::new("password").unwrap(),
        place: Place::new("shop", "db").unwrap(),
    };
    let mut text = sealed(&belonging, b"hunter2").to_string().into_bytes();
    let mut parsed = 0;
    for bit in 0..text.len() * 8 {
        text[bit / 8] ^= 1 << (bit % 8);
        if let Some(token) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()) {
            parsed += 1;
            assert!(opened(&belonging, &token).is_err(), "bit {bit}");
        }
        text[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(parsed > 5000, "most changes are still well spelt, so it is the seal that refuses them: {parsed}");
    assert!(opened(&belonging, &std::str::from_utf8(&text).unwrap().parse().unwrap()).is_ok());
}

/// Exhaustive as above, over the payload's bytes.
#[test]
fn every_single_bit_of_a_payload_counts() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let belonging = Belonging {
        sealed_for: SealedFor::new(None, [""; 0]).unwrap(),
        key: DataKey::new("password").unwrap(),
        place: Place::new("shop", "db").unwrap(),
    };
    let text = sealed(&belonging, b"").to_string();
    let (head, payload) = text.rsplit_once('.').unwrap();
    let mut payload = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    for bit in 0..payload.len() * 8 {
        payload[bit / 8] ^= 1 << (bit % 8);
        let changed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(&payload)).parse().unwrap();
        assert!(opened(&belonging, &changed) == Err(OpenError::Forged), "bit {bit}");
        payload[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Exhaustive as above: the header's MAC and the payload's AEAD leave no byte of an age file free.
#[test]
fn every_single_bit_of_a_wrap_counts() {
    let ring_key = &RING_KEYS[0];
    let mut wrap = ring_key.wrap(MEMBER.recipient()).unwrap();
    for bit in 0..wrap.len() * 8 {
        wrap[bit / 8] ^= 1 << (bit % 8);
        assert!(RingKey::unwrap(&wrap, &MEMBER, ring_key.recipient()).is_err(), "bit {bit}");
        wrap[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(RingKey::unwrap(&wrap, &MEMBER, ring_key.recipient()).is_ok());
    for length in 0..wrap.len() {
        assert!(RingKey::unwrap(&wrap[..length], &MEMBER, ring_key.recipient()).is_err(), "cut to {length}");
    }
}

/// Reads `ctx` back, as another implementation would: what can be read back cannot mean two things.
fn read_ctx(mut ctx: &[u8]) -> (String, Vec<String>, String) {
    fn u32(ctx: &mut &[u8]) -> usize {
        let (count, rest) = ctx.split_first_chunk().unwrap();
        *ctx = rest;
        u32::from_be_bytes(*count) as usize
    }
    fn lp(ctx: &mut &[u8]) -> String {
        let length = u32(ctx);
        let (text, rest) = ctx.split_at(length);
        *ctx = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
    assert_eq!(lp(&mut ctx), "sealwright.dev/seal1/value");
    let name = lp(&mut ctx);
    let namespaces = (0..u32(&mut ctx)).map(|_| lp(&mut ctx)).collect();
    let key = lp(&mut ctx);
    assert!(ctx.is_empty());
    (name, namespaces, key)
}

/// Names as people and attackers write them: good ones, and good ones with one thing wrong.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]([-a-z0-9]{0,70}[a-z0-9])?",
        "[-.a-zA-Z0-9_]{0,8}",
        "[a-z]([-.a-z0-9]{0,300}[a-z0-9])?",
        "[a.]{250,256}",
        "\\PC{0,6}",
        "[a-z]{1,4}[\n\0 /]",
    ]
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn ctx_says_exactly_what_was_bound(a in belonging(), b in belonging()) {
        let bound = |belonging: &Belonging| {
            let name = belonging.sealed_for.name().unwrap_or_default().to_owned();
            (name, belonging.sealed_for.namespaces().to_vec(), belonging.key.as_str().to_owned())
        };
        prop_assert_eq!(read_ctx(&a.sealed_for.ctx(&a.key)), bound(&a));
        prop_assert_eq!(a.sealed_for.ctx(&a.key) == b.sealed_for.ctx(&b.key), bound(&a) == bound(&b));
    }

    #[test]
    fn names_are_accepted_as_kubernetes_accepts_them(text in name()) {
        prop_assert_eq!(SealedFor::new(Some(&text), [""; 0]).is_ok(), text.len() <= 253 && SUBDOMAIN.is_match(&text));
        prop_assert_eq!(SealedFor::new(None, [&text]).is_ok(), text.len() <= 63 && LABEL.is_match(&text));
        prop_assert_eq!(Place::new("shop", &text).is_ok(), text.len() <= 253 && SUBDOMAIN.is_match(&text));
        prop_assert_eq!(Place::new(&text, "db").is_ok(), text.len() <= 63 && LABEL.is_match(&text));
        let key = text.len() <= 253 && DATA_KEY.is_match(&text) && text != "." && !text.starts_with("..");
        prop_assert_eq!(DataKey::new(&text).is_ok(), key);
    }

    #[test]
    fn namespaces_are_a_set(mut namespaces in collection::vec("[a-c]{1,2}", 0..8)) {
        let built = SealedFor::new(None, &namespaces);
        namespaces.reverse();
        prop_assert_eq!(&built, &SealedFor::new(None, &namespaces), "order means nothing");
        namespaces.sort();
        let unique = namespaces.windows(2).all(|pair| pair[0] != pair[1]);
        prop_assert_eq!(built.as_ref().err(), (!unique).then_some(&BindingError::RepeatedNamespace));
        if let Ok(built) = built {
            prop_assert_eq!(built.namespaces(), namespaces);
        }
    }
}

#[test]
fn at_most_64_namespaces() {
    let namespaces: Vec<_> = (0..=MAX_NAMESPACES).map(|i| format!("n{i}")).collect();
    assert!(SealedFor::new(None, &namespaces[..MAX_NAMESPACES]).is_ok());
    assert_eq!(SealedFor::new(None, &namespaces), Err(BindingError::TooManyNamespaces));
}

#[test]
fn a_ring_of_the_largest_size_is_proven_and_one_more_is_refused() {
    let members: Vec<_> = (0..=MAX_MEMBERS)
        .map(|i| Member { name: format!("m{i}"), recipient: Identity::generate().unwrap().recipient().clone() })
        .collect();
    let opened: Vec<_> = (0..=MAX_KEYS).map(|_| RingKey::generate().unwrap()).collect();
    let keys: Vec<_> = opened.iter().map(|key| key.recipient().clone()).collect();
    let ring = |members: &[Member], keys: &[Recipient]| Ring::new("prod", members.to_vec(), keys.to_vec());

    let (most_members, most_keys) = (&members[..MAX_MEMBERS], &keys[..MAX_KEYS]);
    let largest = ring(most_members, most_keys).unwrap();
    let proof = largest.prove(&opened[..MAX_KEYS]).unwrap();
    assert_eq!(largest.verify(&opened[..MAX_KEYS], &proof), Ok(()));
    assert_eq!(largest.verify(&opened, &proof), Err(RingError::OtherKeys), "one key more than the ring has");
    assert_eq!(largest.verify(&opened[1..], &proof), Err(RingError::OtherKeys), "other keys");
    assert_eq!(largest.verify(&opened[..MAX_KEYS - 1], &proof), Err(RingError::OtherKeys), "one key less");
    assert_eq!(largest.verify([], &proof), Err(RingError::OtherKeys), "no key at all");
    assert_eq!(largest.prove(opened[..MAX_KEYS].iter().rev()), Err(RingError::OtherKeys), "another order");

    assert_eq!(ring(&members, most_keys), Err(RingError::MemberCount));
    assert_eq!(ring(most_members, &keys), Err(RingError::KeyCount));
}

/// A good text with one thing done to it that a parser might forgive.
fn respelt(good: String) -> impl Strategy<Value = String> {
    let length = good.len();
    (0..length, 0..=length, any::<char>(), 0..9).prop_map(move |(at, end, c, how)| {
        let mut text = good.clone();
        match how {
            0 => text.make_ascii_uppercase(),
            1 => text.make_ascii_lowercase(),
            2 => text.insert(at, c),
            3 => text.truncate(end),
            4 => text.push('='),
            5 => text.insert_str(at, ["\n", " ", "\r\n", "\t", "\0", "-", "_", "+", "/"][end % 9]),
            6 => drop(text.remove(at)),
            7 => {
                let swapped =
                    char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."[end % 65]);
                text.replace_range(at..=at, swapped.encode_utf8(&mut [0; 4]));
            }
            _ => text.replace_range(at..=at, c.encode_utf8(&mut [0; 4])),
        }
        text
    })
}

fn token_text() -> impl Strategy<Value = String> {
    // 7, 200 and 0 bytes: payloads that leave 0, 1 and 2 bytes to base64's last group.
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let key = DataKey::new("password").unwrap();
        let sealed_for = SealedFor::new(Some("db"), ["shop"]).unwrap();
        let seal = |length| seal(RING_KEYS[0].recipient(), &sealed_for, &key, &vec![1; length]).unwrap().to_string();
        [7, 100, 200, 5000].map(seal).to_vec()
    });
    sample::select(&**TEXTS)
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn a_token_has_one_spelling(text in token_text().prop_flat_map(respelt)) {
        if let Ok(token) = text.parse::<Token>() {
            prop_assert_eq!(token.to_string(), text);
        }
    }

    #[test]
    fn a_recipient_has_one_spelling(text in Just(RING_KEYS[0].recipient().to_string()).prop_flat_map(respelt)) {
        if let Ok(recipient) = text.parse::<Recipient>() {
            prop_assert_eq!(recipient.to_string(), text);
        }
    }

    #[test]
    fn an_identity_has_one_spelling(text in Just(MEMBER.to_secret_string().to_string()).prop_flat_map(respelt)) {
        if let Ok(identity) = Identity::parse(&text) {
            prop_assert!(*identity.to_secret_string() == text);
        }
    }

    #[test]
    fn a_key_id_has_one_spelling(text in Just(RING_KEYS[0].id().to_string()).prop_flat_map(respelt)) {
        if let Ok(id) = text.parse::<KeyId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in prop_oneof![
        "\\PC{0,80}",
        "(seal1|seal9|age1pq1|age1|AGE-SECRET-KEY-PQ-1|AGE-SECRET-KEY-1|age-secret-key-pq-1)[\\PC.]{0,80}",
        "seal1\\.[a-z2-7]{32}\\.[a-z2-7]{8}\\.[-_A-Za-z0-9]{0,1700}",
        "age1pq1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{1952}",
        "AGE-SECRET-KEY-PQ-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}",
    ]) {
        let _ = (Token::from_str(&text), Recipient::from_str(&text), KeyId::from_str(&text), DataKey::new(&text));
        let _ = (Identity::parse(&text).is_ok(), Identity::parse_file(&text).is_ok());
        let _ = (SealedFor::new(Some(&text), [&text, &text]), Place::new(&text, &text), Ring::new(&text, vec![], vec![]));
        if text.starts_with("seal9.") {
            prop_assert_eq!(Token::from_str(&text), Err(TokenError::UnknownVersion));
        }
    }

    #[test]
    fn no_bytes_make_unwrap_panic(
        head in prop_oneof![Just(""), Just("age-encryption.org/v1\n"), Just("age-encryption.org/v1\n-> mlkem768x25519 ")],
        tail in collection::vec(any::<u8>(), 0..5000),
    ) {
        let wrap = [head.as_bytes(), &tail].concat();
        prop_assert!(RingKey::unwrap(&wrap, &MEMBER, RING_KEYS[0].recipient()).is_err());
    }

    #[test]
    fn no_damage_to_a_wrap_makes_unwrap_panic(at in any::<sample::Index>(), cut in 0_usize..200, put in collection::vec(any::<u8>(), 0..100)) {
        static WRAP: LazyLock<Vec<u8>> = LazyLock::new(|| RING_KEYS[0].wrap(MEMBER.recipient()).unwrap());
        let mut wrap = WRAP.clone();
        let at = at.index(wrap.len());
        let end = (at + cut).min(wrap.len());
        wrap.splice(at..end, put);
        let unwrapped = RingKey::unwrap(&wrap, &MEMBER, RING_KEYS[0].recipient());
        prop_assert_eq!(unwrapped.is_ok(), wrap == *WRAP);
    }
}
