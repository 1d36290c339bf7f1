//! Tells whether what Vault gave has changed, without telling what it is.
//!
//! identity -> [`MacKey`]; uid, values -> the text in `status.dataMAC`
//!
//! A plain hash in a status could be tried against every word of a dictionary by whoever may read the object. The key
//! comes out of the controller's own identity: every replica has it, it survives a restart, it needs no Secret and no
//! right of its own, and whoever has the identity can open everything anyway. With another identity the MACs differ
//! once, which costs each object one comparison and one status.

use std::collections::BTreeMap;

use ring::{
    hkdf::{HKDF_SHA256, Salt},
    hmac::{self, HMAC_SHA256},
};
use seal_envelope::Identity;

use super::value::Value;

/// Separates this use of the identity from every other.
const PURPOSE: &[u8] = b"sealwright.dev/vault-data-mac";

/// The key of every MAC.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// The key that belongs to an identity.
    pub fn of(identity: &Identity) -> Self {
        let secret = Salt::new(HKDF_SHA256, PURPOSE).extract(identity.to_secret_string().as_bytes());
        // HKDF refuses only keys that are longer than 255 hashes.
        let key = secret.expand(&[PURPOSE], HMAC_SHA256).expect("a key of the hash's own length");
        Self(hmac::Key::from(key))
    }

    /// The MAC of an object's values. Two objects with the same values have different ones, so that nobody learns that
    /// they are the same.
    pub fn of_values(&self, uid: &str, values: &BTreeMap<String, Value>) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        let mut update = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        update(uid.as_bytes());
        for (key, value) in values {
            update(key.as_bytes());
            update(value);
        }
        context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec().into())).collect()
    }

    #[test]
    fn a_mac_depends_on_key_object_names_and_values_and_on_nothing_else() {
        let identity = Identity::generate().unwrap();
        let key = MacKey::of(&identity);
        let mac = key.of_values("u1", &values(&[("a", "bc")]));
        assert_eq!(mac, MacKey::of(&identity).of_values("u1", &values(&[("a", "bc")])));
        let others = [
            MacKey::of(&Identity::generate().unwrap()).of_values("u1", &values(&[("a", "bc")])),
            key.of_values("u2", &values(&[("a", "bc")])),
            key.of_values("u1", &values(&[("ab", "c")])),
            key.of_values("u1", &values(&[("a", "b"), ("c", "")])),
            key.of_values("u1", &values(&[])),
        ];
        assert!(!others.contains(&mac));
    }
}
