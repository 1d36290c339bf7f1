//! X-Wing as HPKE's KEM 0x647a, with a private key that is expanded once and kept.
//!
//! 32-byte seed -> expanded ML-KEM-768 and X25519 keys -> shared secrets for [`hpke`].
//!
//! Everything public is hpke's own [`XWing`]; only decapsulation is ours, for two reasons. hpke keeps the seed alone
//! and expands it at every opening, more than a third of the cost; and it accepts X25519 shares of low order, which
//! age and draft-ietf-hpke-pq refuse (RFC 7748, section 6.1).
//!
//! Follows draft-connolly-cfrg-xwing-kem, which HPKE names MLKEM768-X25519: the shared secret is
//! `SHA3-256(ss_M || ss_X || ct_X || pk_X || 5c2e2f2f5e5c)`.

use curve25519_dalek::montgomery::MontgomeryPoint;
use hpke::{Deserializable, HpkeError, Kem, Serializable, kem::XWing, rand_core::CryptoRng};
use ml_kem::{Decapsulate, KeyExport, array::sizes::U32, ml_kem_768};
use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use subtle::{Choice, ConstantTimeEq};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

pub(crate) const SEED: usize = 32;
pub(crate) const PUBLIC_KEY: usize = 1216;
/// The length of HPKE's `enc`: an ML-KEM-768 ciphertext, then an X25519 share.
pub(crate) const ENC: usize = 1120;
const ML_KEM_CIPHERTEXT: usize = 1088;
const LABEL: &[u8; 6] = br"\.//^\";

pub(crate) type PublicKey = <XWing as Kem>::PublicKey;
pub(crate) type EncappedKey = <XWing as Kem>::EncappedKey;

/// X-Wing, with [`PrivateKey`] in place of hpke's own.
pub(crate) struct KeptXWing;

/// An expanded private key. It has no `Debug`; ML-KEM's and X25519's parts clear themselves, the seed is cleared here.
#[derive(Clone)]
pub(crate) struct PrivateKey {
    seed: Zeroizing<[u8; SEED]>,
    ml_kem: ml_kem_768::DecapsulationKey,
    x25519: StaticSecret,
    x25519_public: x25519_dalek::PublicKey,
}

impl PrivateKey {
    /// Expands a seed: SHAKE256 gives 64 bytes for ML-KEM's key generation, then 32 for X25519.
    pub(crate) fn from_seed(seed: &[u8; SEED]) -> Self {
        let mut shake = Shake256::default();
        shake.update(seed);
        let mut expanded = shake.finalize_xof();
        let mut ml_kem_seed = ml_kem::Seed::default();
        expanded.read(&mut ml_kem_seed);
        let mut x25519_seed = Zeroizing::new([0; 32]);
        expanded.read(&mut *x25519_seed);

        let ml_kem = ml_kem_768::DecapsulationKey::from_seed(ml_kem_seed);
        ml_kem_seed.zeroize();
        let x25519 = StaticSecret::from(*x25519_seed);
        let x25519_public = (&x25519).into();
        Self { seed: Zeroizing::new(*seed), ml_kem, x25519, x25519_public }
    }

    pub(crate) fn seed(&self) -> &[u8; SEED] {
        &self.seed
    }

    /// The raw public key, as an age recipient holds it.
    pub(crate) fn public_bytes(&self) -> [u8; PUBLIC_KEY] {
        let mut bytes = [0; PUBLIC_KEY];
        let (ml_kem, x25519) = bytes.split_at_mut(PUBLIC_KEY - 32);
        ml_kem.copy_from_slice(&self.ml_kem.encapsulation_key().to_bytes());
        x25519.copy_from_slice(self.x25519_public.as_bytes());
        bytes
    }
}

/// Whether an X25519 share or public key gives an all-zero secret with every scalar (RFC 7748, section 6.1).
///
/// Those are the points of the order 8 and its divisors, on the curve and on its twist: eight times such a point is the
/// identity, whose u is 0. The point is public, so this need not take the same time for all.
pub(crate) fn is_low_order(point: &[u8; 32]) -> bool {
    let eight = [true, false, false, false];
    MontgomeryPoint(*point).mul_bits_be(eight.into_iter()) == MontgomeryPoint([0; 32])
}

impl Kem for KeptXWing {
    type PublicKey = PublicKey;
    type PrivateKey = PrivateKey;
    type EncappedKey = EncappedKey;
    type NSecret = U32;
    const KEM_ID: u16 = XWing::KEM_ID;

    fn sk_to_pk(key: &PrivateKey) -> PublicKey {
        PublicKey::from_bytes(&key.public_bytes()).expect("ML-KEM's own encapsulation key is reduced")
    }

    /// Not for us: an age identity's seed *is* the private key, whoever derives it again has another key.
    fn derive_keypair(ikm: &[u8]) -> (PrivateKey, PublicKey) {
        let (key, public) = XWing::derive_keypair(ikm);
        let mut seed = Zeroizing::new([0; SEED]);
        key.write_exact(&mut *seed);
        (PrivateKey::from_seed(&seed), public)
    }

    fn decap(
        key: &PrivateKey,
        sender: Option<&PublicKey>,
        enc: &EncappedKey,
    ) -> Result<hpke::kem::SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let enc = enc.to_bytes();
        let (ml_kem_ciphertext, share) = enc.split_at(ML_KEM_CIPHERTEXT);
        let ml_kem_ciphertext: &ml_kem::Ciphertext<ml_kem::MlKem768> =
            ml_kem_ciphertext.try_into().map_err(|_| HpkeError::DecapError)?;
        let share: [u8; 32] = share.try_into().map_err(|_| HpkeError::DecapError)?;

        let x25519_secret = key.x25519.diffie_hellman(&x25519_dalek::PublicKey::from(share));
        if !x25519_secret.was_contributory() {
            return Err(HpkeError::DecapError);
        }
        let mut ml_kem_secret = key.ml_kem.decapsulate(ml_kem_ciphertext);
        let secret = Sha3_256::new()
            .chain_update(ml_kem_secret)
            .chain_update(x25519_secret.as_bytes())
            .chain_update(share)
            .chain_update(key.x25519_public.as_bytes())
            .chain_update(LABEL)
            .finalize();
        ml_kem_secret.zeroize();
        Ok(hpke::kem::SharedSecret(secret))
    }

    fn encap_with_rng(
        recipient: &PublicKey,
        sender: Option<(&PrivateKey, &PublicKey)>,
        rng: &mut impl CryptoRng,
    ) -> Result<(hpke::kem::SharedSecret<Self>, EncappedKey), HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::EncapError);
        }
        let (secret, enc) = XWing::encap_with_rng(recipient, None, rng)?;
        Ok((hpke::kem::SharedSecret(secret.0), enc))
    }
}

impl Serializable for PrivateKey {
    type OutputSize = U32;

    fn write_exact(&self, out: &mut [u8]) {
        out.copy_from_slice(&*self.seed);
    }
}

impl Deserializable for PrivateKey {
    fn from_bytes(seed: &[u8]) -> Result<Self, HpkeError> {
        let seed = seed.try_into().map_err(|_| HpkeError::IncorrectInputLength(SEED, seed.len()))?;
        Ok(Self::from_seed(seed))
    }
}

impl ConstantTimeEq for PrivateKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.seed.as_slice().ct_eq(other.seed.as_slice())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use hpke::{
        OpModeR,
        aead::ChaCha20Poly1305,
        kdf::HkdfSha256,
        rand_core::{TryCryptoRng, TryRng},
        setup_receiver,
    };
    use serde_json::Value;

    use super::*;

    /// Gives the bytes that a vector says, once.
    struct Given(Vec<u8>);

    impl TryRng for Given {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            unreachable!("X-Wing takes bytes")
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            unreachable!("X-Wing takes bytes")
        }

        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            out.copy_from_slice(&self.0.split_off(self.0.len() - out.len()));
            assert!(self.0.is_empty(), "all of it at once");
            Ok(())
        }
    }

    impl TryCryptoRng for Given {}

    fn vectors(json: &str) -> Vec<Value> {
        serde_json::from_str(json).unwrap()
    }

    fn bytes(vector: &Value, field: &str) -> Vec<u8> {
        let text = vector[field].as_str().unwrap_or_else(|| panic!("no {field}"));
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    /// A key pair, and one encapsulation to it in both directions.
    fn check_kem(private: &[u8], public: &[u8], randomness: Vec<u8>, enc: &[u8], secret: &[u8]) {
        let private = PrivateKey::from_bytes(private).unwrap();
        assert_eq!(private.public_bytes(), public);
        let recipient = KeptXWing::sk_to_pk(&private);
        assert_eq!(recipient.to_bytes().as_slice(), public);
        let (sent, sent_enc) = KeptXWing::encap_with_rng(&recipient, None, &mut Given(randomness)).unwrap();
        assert_eq!((sent.0.as_slice(), sent_enc.to_bytes().as_slice()), (secret, enc));
        let received = KeptXWing::decap(&private, None, &EncappedKey::from_bytes(enc).unwrap()).unwrap();
        assert_eq!(received.0.as_slice(), secret);
    }

    #[test]
    fn the_published_x_wing_vectors_hold() {
        let vectors = vectors(include_str!("../tests/published/x-wing.json"));
        assert!(!vectors.is_empty());
        for v in &vectors {
            assert_eq!(bytes(v, "seed"), bytes(v, "sk"));
            check_kem(&bytes(v, "sk"), &bytes(v, "pk"), bytes(v, "eseed"), &bytes(v, "ct"), &bytes(v, "ss"));
        }
    }

    #[test]
    fn the_published_hpke_vectors_hold() {
        let vectors = vectors(include_str!("../tests/published/hpke.json"));
        assert!(!vectors.is_empty());
        for v in &vectors {
            let (private, public, enc) = (bytes(v, "skRm"), bytes(v, "pkRm"), bytes(v, "enc"));
            check_kem(&private, &public, bytes(v, "ikmE"), &enc, &bytes(v, "shared_secret"));

            let (derived, derived_public) = KeptXWing::derive_keypair(&bytes(v, "ikmR"));
            assert_eq!((derived.seed().as_slice(), derived_public.to_bytes().as_slice()), (&*private, &*public));

            let (enc, info) = (EncappedKey::from_bytes(&enc).unwrap(), bytes(v, "info"));
            let mut receiver =
                setup_receiver::<ChaCha20Poly1305, HkdfSha256, KeptXWing>(&OpModeR::Base, &derived, &enc, &info)
                    .unwrap();
            for message in v["encryptions"].as_array().unwrap() {
                let plaintext = receiver.open(&bytes(message, "ct"), &bytes(message, "aad")).unwrap();
                assert_eq!(plaintext, bytes(message, "pt"));
            }
            for export in v["exports"].as_array().unwrap() {
                let mut exported = vec![0; export["L"].as_u64().unwrap() as usize];
                receiver.export(&bytes(export, "exporter_context"), &mut exported).unwrap();
                assert_eq!(exported, bytes(export, "exported_value"));
            }
        }
    }

    #[test]
    fn a_ciphertext_of_ml_kem_that_was_changed_gives_another_secret_and_no_error() {
        let private = PrivateKey::from_seed(&[7; SEED]);
        let (sent, enc) =
            KeptXWing::encap_with_rng(&KeptXWing::sk_to_pk(&private), None, &mut Given(vec![9; 64])).unwrap();
        let mut changed = enc.to_bytes();
        changed[0] ^= 1;
        let received = KeptXWing::decap(&private, None, &EncappedKey::from_bytes(&changed).unwrap()).unwrap();
        assert_ne!(sent.0, received.0);
    }

    #[test]
    fn senders_with_a_key_of_their_own_are_refused() {
        let private = PrivateKey::from_seed(&[7; SEED]);
        let public = KeptXWing::sk_to_pk(&private);
        let mut randomness = Given(vec![9; 64]);
        assert!(KeptXWing::encap_with_rng(&public, Some((&private, &public)), &mut randomness).is_err());
        let (_, enc) = KeptXWing::encap_with_rng(&public, None, &mut randomness).unwrap();
        assert!(KeptXWing::decap(&private, Some(&public), &enc).is_err());
    }

    #[test]
    fn a_point_is_of_low_order_if_a_scalar_gives_no_secret() {
        let gives_no_secret = |point: [u8; 32]| {
            let any = StaticSecret::from([1; 32]);
            !any.diffie_hellman(&x25519_dalek::PublicKey::from(point)).was_contributory()
        };
        let of = |hex: &str| <[u8; 32]>::try_from(bytes(&serde_json::json!({ "u": hex }), "u")).unwrap();
        let small = |u: u8| std::array::from_fn(|i| if i == 0 { u } else { 0 });
        let near_p = |u: u8| std::array::from_fn(|i| [u, 0xff, 0x7f][usize::from(i > 0) + usize::from(i == 31)]);
        let low = [
            small(0),
            small(1),
            of("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
            of("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
            near_p(0xec),
            near_p(0xed),
            near_p(0xee),
        ];
        for mut point in low {
            assert!(is_low_order(&point) && gives_no_secret(point));
            point[31] |= 0x80; // a bit that RFC 7748 ignores
            assert!(is_low_order(&point) && gives_no_secret(point));
        }
        // Half of these are on the curve, half on its twist.
        for u in 2..200 {
            assert!(!is_low_order(&small(u)) && !gives_no_secret(small(u)), "{u}");
        }
    }
}
