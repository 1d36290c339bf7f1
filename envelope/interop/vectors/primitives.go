package main

// The format again, from the primitives up and with every random byte given: X-Wing, HPKE's key schedule, Bech32, age
// files, ctx, frames, tokens, proofs. Each function takes what a wrong implementation would get wrong as an argument.

import (
	"bytes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

func lp(s string) []byte { return cat(u32(len(s)), []byte(s)) }

// random gives n bytes that only the label decides.
func random(label string, n int) []byte {
	out := make([]byte, n)
	shake := sha3.NewSHAKE256()
	shake.Write([]byte("sealwright test vectors: " + label))
	shake.Read(out)
	return out
}

// key is an X-Wing key pair, expanded from its seed.
type key struct {
	seed   []byte
	mlkem  *mlkem.DecapsulationKey768
	x25519 *ecdh.PrivateKey
	public []byte
}

func newKey(label string) key { return expand(random("seed of "+label, 32)) }

func expand(seed []byte) key {
	shake, expanded := sha3.NewSHAKE256(), make([]byte, 96)
	shake.Write(seed)
	shake.Read(expanded)
	pq := must(mlkem.NewDecapsulationKey768(expanded[:64]))
	x := must(ecdh.X25519().NewPrivateKey(expanded[64:]))
	return key{seed, pq, x, cat(pq.EncapsulationKey().Bytes(), x.PublicKey().Bytes())}
}

func (k key) recipient() string { return bech32("age1pq", k.public, 1, 0) }

func (k key) identity() string { return strings.ToUpper(bech32("age-secret-key-pq-", k.seed, 1, 0)) }

func (k key) id() string {
	id := sha256.Sum256(cat(lp("sealwright.dev/key-id"), lp(k.recipient())))
	return base32Lower(id[:20])
}

// encapsulation is one HPKE enc with the shared secret behind it.
type encapsulation struct{ randomness, enc, secret []byte }

// encapsulate runs X-Wing. A share that is not nil takes the place of the ephemeral key's, with an X25519 secret of
// zeros: what an implementation gets that does not refuse points of low order.
func encapsulate(public, randomness, share []byte) encapsulation {
	ek := must(mlkem.NewEncapsulationKey768(public[:1184]))
	pqSecret, pqCiphertext, err := mlkemtest.Encapsulate768(ek, randomness[:32])
	must(0, err)
	xSecret := make([]byte, 32)
	if share == nil {
		ephemeral := must(ecdh.X25519().NewPrivateKey(randomness[32:]))
		share = ephemeral.PublicKey().Bytes()
		xSecret = must(ephemeral.ECDH(must(ecdh.X25519().NewPublicKey(public[1184:]))))
	}
	return encapsulation{randomness, cat(pqCiphertext, share), combine(pqSecret, xSecret, share, public[1184:])}
}

func combine(pqSecret, xSecret, share, public []byte) []byte {
	secret := sha3.Sum256(cat(pqSecret, xSecret, share, public, []byte(`\.//^\`)))
	return secret[:]
}

// suite is HPKE's choice of mode and AEAD, where KEM and KDF are always X-Wing and HKDF-SHA256.
type suite struct {
	mode, aeadID byte
	aead         func(key []byte) (cipher.AEAD, error)
}

var base = suite{0, 3, chacha20poly1305.New}

// hpkeSeal is HPKE's key schedule (RFC 9180, section 5.1) and its first message.
func hpkeSeal(secret, info, aad, plaintext []byte, use suite) []byte {
	suite := []byte{'H', 'P', 'K', 'E', 0x64, 0x7a, 0, 1, 0, use.aeadID}
	extract := func(salt []byte, label string, ikm []byte) []byte {
		return must(hkdf.Extract(sha256.New, cat([]byte("HPKE-v1"), suite, []byte(label), ikm), salt))
	}
	context := cat([]byte{use.mode}, extract(nil, "psk_id_hash", nil), extract(nil, "info_hash", info))
	prk := extract(secret, "secret", nil)
	derive := func(label string, n int) []byte {
		info := cat([]byte{0, byte(n)}, []byte("HPKE-v1"), suite, []byte(label), context)
		return must(hkdf.Expand(sha256.New, prk, string(info), n))
	}
	aead := must(use.aead(derive("key", 32)))
	return aead.Seal(nil, derive("base_nonce", 12), plaintext, aad)
}

type binding struct {
	name       string
	namespaces []string
	key        string
}

func (b binding) ctx() []byte { return b.ctxIn("sealwright.dev/seal1/value") }

func (b binding) ctxIn(domain string) []byte {
	ctx := cat(lp(domain), lp(b.name), u32(len(b.namespaces)))
	for _, namespace := range b.namespaces {
		ctx = append(ctx, lp(namespace)...)
	}
	return append(ctx, lp(b.key)...)
}

func (b binding) tag() string {
	tag := sha256.Sum256(b.ctx())
	return base32Lower(tag[:5])
}

func frame(value []byte, size int) []byte {
	frame := make([]byte, size)
	copy(frame, cat(u32(4+len(value)), value))
	return frame
}

func token(keyID, tag string, payload []byte) string {
	return "seal1." + keyID + "." + tag + "." + base64.RawURLEncoding.EncodeToString(payload)
}

func base32Lower(b []byte) string { return strings.ToLower(base32.StdEncoding.EncodeToString(b)) }

// bech32 without length limit; checksum 1 is Bech32's own, spare fills the unused bits of the last digit.
func bech32(hrp string, b []byte, checksum uint32, spare byte) string {
	const alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	var digits, expanded []byte
	bits, held := uint(0), 0
	for _, c := range b {
		bits, held = bits<<8|uint(c), held+8
		for ; held >= 5; held -= 5 {
			digits = append(digits, byte(bits>>(held-5))&31)
		}
	}
	if held > 0 {
		digits = append(digits, byte(bits<<(5-held))&31|spare)
	}
	for _, c := range []byte(hrp) {
		expanded = append(expanded, c>>5)
	}
	expanded = append(expanded, 0)
	for _, c := range []byte(hrp) {
		expanded = append(expanded, c&31)
	}
	polymod := uint32(1)
	for _, digit := range cat(expanded, digits, make([]byte, 6)) {
		top := polymod >> 25
		polymod = polymod&0x1ffffff<<5 ^ uint32(digit)
		for i, generator := range []uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				polymod ^= generator
			}
		}
	}
	polymod ^= checksum
	for shift := 25; shift >= 0; shift -= 5 {
		digits = append(digits, byte(polymod>>shift)&31)
	}
	text := []byte(hrp + "1")
	for _, digit := range digits {
		text = append(text, alphabet[digit])
	}
	return string(text)
}

// stanza is one recipient stanza of an age header, written out.
func stanza(body []byte, args ...string) string {
	text := "-> " + strings.Join(args, " ") + "\n"
	encoded := base64.RawStdEncoding.EncodeToString(body)
	for len(encoded) >= 64 {
		text, encoded = text+encoded[:64]+"\n", encoded[64:]
	}
	return text + encoded + "\n"
}

// hybrid is age's mlkem768x25519 stanza.
func hybrid(to key, e encapsulation, fileKey []byte, more ...string) string {
	args := append([]string{"mlkem768x25519", base64.RawStdEncoding.EncodeToString(e.enc)}, more...)
	return stanza(hpkeSeal(e.secret, []byte("age-encryption.org/mlkem768x25519"), nil, fileKey, base), args...)
}

// x25519 is age's classic stanza.
func x25519(to *ecdh.PublicKey, ephemeral *ecdh.PrivateKey, fileKey []byte) string {
	share := ephemeral.PublicKey().Bytes()
	wrapKey := must(hkdf.Key(sha256.New, must(ephemeral.ECDH(to)), cat(share, to.Bytes()), "age-encryption.org/v1/X25519", 32))
	body := must(chacha20poly1305.New(wrapKey)).Seal(nil, make([]byte, 12), fileKey, nil)
	return stanza(body, "X25519", base64.RawStdEncoding.EncodeToString(share))
}

// ageFile puts header and payload together. The payloads here are all of one chunk.
func ageFile(stanzas string, fileKey, nonce, plaintext []byte) []byte {
	header := "age-encryption.org/v1\n" + stanzas + "---"
	mac := hmac.New(sha256.New, must(hkdf.Key(sha256.New, fileKey, nil, "header", 32)))
	mac.Write([]byte(header))
	header += " " + base64.RawStdEncoding.EncodeToString(mac.Sum(nil)) + "\n"
	payloadKey := must(hkdf.Key(sha256.New, fileKey, nonce, "payload", 32))
	last := append(make([]byte, 11), 1)
	return cat([]byte(header), nonce, must(chacha20poly1305.New(payloadKey)).Seal(nil, last, plaintext, nil))
}

type member struct {
	name string
	key  key
}

// prove gives HMAC's key, its message and the proof.
func prove(ring string, members []member, keys []key) (hmacKey, statement, proof []byte) {
	var seeds []byte
	statement = cat(lp("sealwright.dev/ring"), lp(ring), u32(len(members)))
	for _, member := range members {
		statement = cat(statement, lp(member.name), lp(member.key.recipient()))
	}
	statement = cat(statement, u32(len(keys)))
	for _, key := range keys {
		seeds = cat(seeds, key.seed)
		statement = cat(statement, lp(key.recipient()))
	}
	hmacKey = must(hkdf.Key(sha256.New, seeds, nil, "sealwright.dev/ring-proof", 32))
	mac := hmac.New(sha256.New, hmacKey)
	mac.Write(statement)
	return hmacKey, statement, mac.Sum(nil)
}

func flipped(b []byte, at int, bits byte) []byte {
	b = bytes.Clone(b)
	b[at] ^= bits
	return b
}
