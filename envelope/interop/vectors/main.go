// Vectors writes the test vectors of the seal1 format: one text file for each accepted or refused input.
//
//	go run . ../../tests/vectors
//
// Nothing here is shared with the Rust implementation, and nothing is random, so that running it again gives the same
// files; a test of seal-envelope does. A file begins with a comment that says what it is about. Then come lines of
// "field: value": bytes in hexadecimal, text as it is, in double quotes where it is empty or has white space at an end.
// "expect" is what a correct implementation makes of the input.
package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/mlkem"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var folder string

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . FOLDER")
		os.Exit(2)
	}
	folder = os.Args[1]
	values()
	tokens()
	bindings()
	recipients()
	identities()
	wraps()
	proofs()
}

// write makes one file out of pairs of field and value. A nil value leaves its field out.
func write(kind, name, comment, expect string, fields ...any) {
	text := "# " + comment + "\nexpect: " + expect + "\n"
	for i := 0; i < len(fields); i += 2 {
		field := fields[i].(string)
		switch value := fields[i+1].(type) {
		case nil:
		case string:
			text += field + ": " + quoted(value) + "\n"
		case []byte:
			text += field + ": " + hex.EncodeToString(value) + "\n"
		case []string:
			for _, value := range value {
				text += field + ": " + quoted(value) + "\n"
			}
		default:
			panic(field)
		}
	}
	path := filepath.Join(folder, kind, name+".txt")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		panic(err)
	}
	if _, err := os.Stat(path); err == nil && written[path] {
		panic("two vectors called " + path)
	}
	written[path] = true
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		panic(err)
	}
}

// quoted keeps what an editor would not: nothing, and white space at an end.
func quoted(s string) string {
	if s == "" || s != strings.TrimSpace(s) {
		return `"` + s + `"`
	}
	return s
}

var written = map[string]bool{}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

var (
	ringKey  = newKey("the ring key")
	otherKey = newKey("another ring key")
	shop     = binding{"db", []string{"shop"}, "password"}
)

// lowOrder holds every point of order 1, 2, 4 and 8 on the curve and its twist, in all their encodings below 2^255.
var lowOrder = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// sealing is how one value was sealed. What is left zero is done right.
type sealing struct {
	binding   binding // what the opener reads in the object
	place     string  // where the opener is about to put it
	value     []byte
	frame     []byte
	info, aad []byte
	suite     *suite
	to        *key
	keyID     string
	tag       string
	share     []byte
	change    func(payload []byte) []byte
	noFrame   bool // the message does not open with HPKE at all
}

func values() {
	value := func(name, comment, expect string, s sealing) {
		if s.binding.key == "" {
			s.binding = shop
		}
		if s.place == "" {
			s.place = "shop/db"
		}
		if s.value == nil {
			s.value = []byte("hunter2")
		}
		if s.frame == nil {
			s.frame = frame(s.value, bucket(4+len(s.value)))
		}
		if s.info == nil {
			s.info = s.binding.ctx()
		}
		if s.to == nil {
			s.to = &ringKey
		}
		if s.suite == nil {
			s.suite = &base
		}
		if s.keyID == "" {
			s.keyID = s.to.id()
		}
		if s.tag == "" {
			s.tag = s.binding.tag()
		}
		e := encapsulate(s.to.public, random("value "+name, 64), s.share)
		payload := cat(e.enc, hpkeSeal(e.secret, s.info, s.aad, s.frame, *s.suite))
		if s.change != nil {
			payload = s.change(payload)
		}

		// Go's own HPKE agrees with all of the above; it refuses shares of low order itself.
		own := must(hpke.MLKEM768X25519().NewPrivateKey(ringKey.seed))
		opened, err := hpke.Open(own, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), s.binding.ctx(), payload)
		if s.noFrame || s.share != nil {
			if err == nil {
				panic(name + " opens")
			}
		} else if !bytes.Equal(must(opened, err), s.frame) {
			panic(name + " opens to something else")
		}

		fields := []any{"seed", ringKey.seed, "recipient", ringKey.recipient(), "key id", ringKey.id(),
			"name", orNil(s.binding.name), "namespace", s.binding.namespaces, "data key", s.binding.key,
			"place", s.place, "ctx", s.binding.ctx()}
		if !s.noFrame {
			fields = append(fields, "randomness", e.randomness, "enc", e.enc, "shared secret", e.secret, "frame", s.frame)
		}
		fields = append(fields, "token", token(s.keyID, s.tag, payload))
		if expect == "opened" {
			fields = append(fields, "value", s.value)
		}
		write("value", name, comment, expect, fields...)
	}
	broken := func(name, comment, expect string, s sealing) {
		s.noFrame = true
		value(name, comment, expect, s)
	}

	value("strict", "One name, one namespace.", "opened", sealing{})
	value("namespaces", "One of several namespaces; they are bound in byte order.", "opened",
		sealing{binding: binding{"db", []string{"shop", "shop-a", "shop0"}, "password"}, place: "shop-a/db"})
	value("any-name", "No name means any name.", "opened", sealing{binding: binding{"", []string{"shop"}, "password"}, place: "shop/anything"})
	value("any-namespace", "No namespaces mean any namespace.", "opened", sealing{binding: binding{"db", nil, "password"}, place: "anywhere/db"})
	value("anywhere", "Neither name nor namespaces.", "opened", sealing{binding: binding{"", nil, ".dockerconfigjson"}, place: "anywhere/anything"})
	for _, length := range []int{0, 1, 60, 61, 124, 125, 2044, 2045, 4092, 4093, 5116, 5117} {
		value(fmt.Sprintf("length-%04d", length), fmt.Sprintf("A value of %d bytes, in a frame of %d.", length, bucket(4+length)),
			"opened", sealing{value: random("a value", length)})
	}

	value("place-other-name", "The place has another name than was sealed for.", "other-name", sealing{place: "shop/cache"})
	value("place-other-namespace", "The place is in another namespace than was sealed for.", "other-namespace", sealing{place: "test/db"})
	value("place-not-listed", "The place is in none of several namespaces; a prefix is not enough.", "other-namespace",
		sealing{binding: binding{"db", []string{"shop-a", "shop-b"}, "password"}, place: "shop/db"})

	for name, from := range map[string]binding{
		"key": {"db", []string{"shop"}, "user"}, "name": {"cache", []string{"shop"}, "password"},
		"namespace": {"db", []string{"test"}, "password"}, "fewer-namespaces": {"db", nil, "password"},
		"more-namespaces": {"db", []string{"shop", "test"}, "password"}, "any-name": {"", []string{"shop"}, "password"},
	} {
		broken("moved-"+name, "Sealed for another place ("+name+"), and its tag says so.", "moved", sealing{info: from.ctx(), tag: from.tag()})
		broken("transplanted-"+name, "Sealed for another place ("+name+"), with a tag that was mended.", "forged", sealing{info: from.ctx()})
	}
	broken("other-key", "Sealed to another ring key.", "other-key", sealing{to: &otherKey})
	broken("other-key-renamed", "Sealed to another ring key, under this one's id.", "forged", sealing{to: &otherKey, keyID: ringKey.id()})
	derived := must(hpke.MLKEM768X25519().DeriveKeyPair(ringKey.seed))
	derivedKey := expand(must(derived.Bytes()))
	broken("derived-key", "Sealed to DeriveKeyPair of the seed. The seed itself is the private key.", "forged", sealing{to: &derivedKey, keyID: ringKey.id()})

	ordered := binding{"db", []string{"a", "b"}, "password"}
	unordered := binding{"db", []string{"b", "a"}, "password"}
	repeated := binding{"db", []string{"shop", "shop"}, "password"}
	broken("ctx-unordered", "Sealed with namespaces that are not in byte order.", "forged",
		sealing{binding: ordered, place: "a/db", info: unordered.ctx()})
	broken("ctx-repeated", "Sealed with one namespace twice.", "forged", sealing{info: repeated.ctx()})
	broken("ctx-seal2", "Sealed in the domain of another version.", "forged", sealing{info: shop.ctxIn("sealwright.dev/seal2/value")})
	broken("ctx-none", "Sealed with an empty info.", "forged", sealing{info: []byte{}})
	broken("ctx-as-aad", "ctx in the AAD instead of the info.", "forged", sealing{info: []byte{}, aad: shop.ctx()})
	broken("aad", "An AAD besides the info.", "forged", sealing{aad: []byte("x")})
	broken("age-info", "An age stanza's message, whose info is age's.", "forged", sealing{info: []byte("age-encryption.org/mlkem768x25519")})
	psk, gcm := base, base
	psk.mode = 1
	gcm.aeadID, gcm.aead = 2, func(key []byte) (cipher.AEAD, error) { return cipher.NewGCM(must(aes.NewCipher(key))) }
	broken("psk-mode", "HPKE's mode 1 in the key schedule.", "forged", sealing{suite: &psk})
	broken("aes-256-gcm", "Sealed with AES-256-GCM.", "forged", sealing{suite: &gcm})
	broken("bit-in-ml-kem", "One bit of enc's ML-KEM part.", "forged", sealing{change: func(p []byte) []byte { return flipped(p, 500, 1) }})
	broken("bit-in-x25519", "One bit of enc's X25519 part.", "forged", sealing{change: func(p []byte) []byte { return flipped(p, 1100, 4) }})
	broken("high-bit-of-x25519", "The bit of enc's X25519 share that X25519 ignores. The shared secret covers it.", "forged",
		sealing{change: func(p []byte) []byte { return flipped(p, 1119, 0x80) }})
	broken("bit-in-ciphertext", "One bit of the ciphertext.", "forged", sealing{change: func(p []byte) []byte { return flipped(p, 1130, 1) }})
	broken("bit-in-tag", "One bit of the authentication tag.", "forged", sealing{change: func(p []byte) []byte { return flipped(p, len(p)-1, 1) }})
	broken("cut-to-a-bucket", "A ciphertext cut to a smaller bucket.", "forged",
		sealing{value: random("a value", 100), change: func(p []byte) []byte { return p[:1120+64+16] }})

	for i, point := range lowOrder {
		share := must(hex.DecodeString(point))
		value(fmt.Sprintf("low-order-%d", i), "A share of low order in enc; the rest is right for whoever accepts it.", "forged", sealing{share: share})
		value(fmt.Sprintf("low-order-%d-high-bit", i), "As without high-bit, with the bit set that X25519 ignores.", "forged", sealing{share: flipped(share, 31, 0x80)})
	}

	good := frame([]byte("hunter2"), 64)
	value("padding-first", "The first byte of padding is not zero.", "forged", sealing{frame: flipped(good, 11, 1)})
	value("padding-last", "The last byte of padding is not zero.", "forged", sealing{frame: flipped(good, 63, 0x80)})
	value("bucket-too-large", "A value that fits into 64 bytes, in 128.", "forged", sealing{frame: frame([]byte("hunter2"), 128)})
	value("bucket-too-large-by-a-step", "A value that fits into 5120 bytes, in 6144.", "forged", sealing{frame: frame(random("a value", 5000), 6144)})
	for _, length := range []uint32{0, 3, 65, 0x80000000, 0xffffffff} {
		changed := bytes.Clone(good)
		copy(changed, u32(int(length)))
		value(fmt.Sprintf("frame-length-%d", length), "An impossible length in the frame.", "forged", sealing{frame: changed})
	}
	value("frame-zeros", "A frame of zeros, whose length does not even cover itself.", "forged", sealing{frame: make([]byte, 64)})
	value("frame-length-excluded", "A length that does not count its own four bytes.", "forged", sealing{frame: flipped(good, 3, 11^7)})
	value("frame-little-endian", "A little-endian length.", "forged", sealing{frame: cat([]byte{11, 0, 0, 0}, good[4:])})
}

func bucket(framed int) int {
	size := 64
	for size < framed && size < 4096 {
		size *= 2
	}
	for size < framed {
		size += 1024
	}
	return size
}

func tokens() {
	sealed := func(length int) string {
		e := encapsulate(ringKey.public, random(fmt.Sprint("token ", length), 64), nil)
		text := frame(random("a value", length), bucket(4+length))
		return token(ringKey.id(), shop.tag(), cat(e.enc, hpkeSeal(e.secret, shop.ctx(), nil, text, base)))
	}
	good, spare4, spare2 := sealed(7), sealed(100), sealed(6000)
	id, tag := ringKey.id(), shop.tag()
	payload := strings.Split(good, ".")[3]

	write("token", "good", "A token whose payload fills base64's last group.", "token", "token", good)
	write("token", "good-spare-4", "A payload that leaves four bits of base64's last character.", "token", "token", spare4)
	write("token", "good-spare-2", "A payload that leaves two bits of base64's last character.", "token", "token", spare2)

	refuse := func(name, comment, expect, token string) { write("token", name, comment, expect, "token", token) }
	refuse("empty", "Nothing.", "not-sealed", "")
	refuse("plain", "A value that was never sealed.", "not-sealed", "hunter2")
	refuse("plain-with-dots", "A value that was never sealed, with dots.", "not-sealed", "seal.me.up.scotty")
	refuse("upper-case", "The version in upper case.", "not-sealed", "SEAL1"+good[5:])
	refuse("leading-space", "White space before it.", "not-sealed", " "+good)
	refuse("no-number", "A version without a number.", "not-sealed", "seal"+good[5:])
	refuse("seal0", "Version 0.", "unknown-version", "seal0"+good[5:])
	refuse("seal2", "Version 2.", "unknown-version", "seal2"+good[5:])
	refuse("seal9", "A version of the far future, whose rest we cannot know.", "unknown-version", "seal9.whatever")
	refuse("seal10", "Version 10 is not version 1.", "unknown-version", "seal10"+good[5:])
	refuse("seal01", "Another spelling of version 1.", "unknown-version", "seal01"+good[5:])
	refuse("only-version", "A version and nothing else.", "length", "seal1.")
	refuse("no-payload", "No payload.", "length", "seal1."+id+"."+tag+".")
	refuse("no-place", "No place.", "spelling", "seal1."+id+"."+payload)
	refuse("extra-part", "A fifth part.", "spelling", good+".x")
	refuse("upper-case-id", "The key id in upper case.", "spelling", "seal1."+strings.ToUpper(id)+"."+tag+"."+payload)
	refuse("upper-case-place", "The place in upper case.", "spelling", "seal1."+id+"."+strings.ToUpper(tag)+"."+payload)
	refuse("digit-in-id", "A digit that base32 does not have.", "spelling", "seal1."+id[:31]+"1."+tag+"."+payload)
	refuse("short-id", "A key id of 31 characters.", "spelling", "seal1."+id[:31]+"."+tag+"."+payload)
	refuse("long-id", "A key id of 40 characters.", "spelling", "seal1."+id+id[:8]+"."+tag+"."+payload)
	refuse("short-place", "A place of seven characters.", "spelling", "seal1."+id+"."+tag[:7]+"."+payload)
	refuse("long-place", "A place of 16 characters.", "spelling", "seal1."+id+"."+tag+tag+"."+payload)
	refuse("padded-place", "A place with base32's padding.", "spelling", "seal1."+id+"."+tag+"======."+payload)
	refuse("trailing-space", "White space behind it.", "spelling", good+" ")
	refuse("inner-space", "White space inside the payload, as a folded line may leave.", "spelling", good[:800]+" "+good[800:])
	refuse("padding", "base64's padding.", "spelling", spare4+"==")
	refuse("standard-alphabet", "The standard base64 alphabet.", "spelling", strings.NewReplacer("-", "+", "_", "/").Replace(good))
	refuse("spare-4", "A spare bit set, of four.", "spelling", nextCharacter(spare4))
	refuse("spare-2", "A spare bit set, of two.", "spelling", nextCharacter(spare2))
	refuse("not-ascii", "A character outside ASCII.", "spelling", good[:800]+"é"+good[802:])
	refuse("cut-group", "One character cut off: no whole number of bytes.", "spelling", "seal1."+id+"."+tag+"."+base64.RawURLEncoding.EncodeToString(make([]byte, 1200))[:1597])
	refuse("cut", "Cut off: no bucket has this length.", "length", good[:len(good)-4])
	refuse("glued", "Two payloads, one behind the other.", "length", good+payload)
	for _, length := range []int{0, 1120, 1135, 1136, 1136 + 63, 1136 + 65, 1136 + 96, 1136 + 4096 + 512} {
		refuse(fmt.Sprintf("payload-%d", length), "A payload of a length that no bucket gives.", "length", token(id, tag, make([]byte, length)))
	}
}

// nextCharacter adds one to the value of a base64url text's last character.
func nextCharacter(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, text[len(text)-1])
	return text[:len(text)-1] + alphabet[last+1:last+2]
}

func bindings() {
	fields := func(name any, namespaces []string, key string) []any {
		return []any{"name", name, "namespace", namespaces, "data key", key}
	}
	accept := func(name, comment string, given []string, b binding) {
		write("binding", name, comment, "bound", append(fields(orNil(b.name), given, b.key), "ctx", b.ctx(), "place tag", b.tag())...)
	}
	refuse := func(name, comment, expect string, bound any, namespaces []string, key string) {
		write("binding", name, comment, expect, fields(bound, namespaces, key)...)
	}
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("n%02d", i)
	}

	accept("strict", "One name, one namespace.", shop.namespaces, shop)
	accept("anywhere", "Neither.", nil, binding{"", nil, "password"})
	accept("unordered", "Namespaces are bound in byte order, whatever the order that they are listed in.",
		[]string{"shop", "a", "shop-a", "9"}, binding{"db", []string{"9", "a", "shop", "shop-a"}, "password"})
	accept("64-namespaces", "As many namespaces as there may be.", many[:64], binding{"db", many[:64], "password"})
	accept("subdomain", "A name with dots.", nil, binding{"db.v2.example", nil, "password"})
	accept("long", "The longest name, namespace and key.", []string{strings.Repeat("n", 63)},
		binding{strings.Repeat("d", 253), []string{strings.Repeat("n", 63)}, strings.Repeat("K", 253)})
	accept("key-characters", "All kinds of characters of a key.", nil, binding{"", nil, "-._aZ09"})
	accept("key-leading-dot", "A key that begins with one dot.", nil, binding{"", nil, ".dockerconfigjson"})

	refuse("65-namespaces", "One namespace too many.", "too-many-namespaces", "db", many, "k")
	refuse("repeated", "A namespace twice.", "repeated-namespace", "db", []string{"a", "b", "a"}, "k")
	for name, bad := range map[string]string{
		"empty": "", "upper-case": "Db", "underscore": "d_b", "leading-dash": "-db", "trailing-dash": "db-", "trailing-dot": "db.",
		"leading-dot": ".db", "two-dots": "d..b", "slash": "a/b", "space": "d b", "not-ascii": "dß", "long": strings.Repeat("d", 254),
	} {
		refuse("name-"+name, "No name of a Secret.", "name", bad, nil, "k")
	}
	for name, bad := range map[string]string{
		"empty": "", "upper-case": "Shop", "dot": "sh.op", "leading-dash": "-shop", "trailing-dash": "shop-", "not-ascii": "shöp",
		"long": strings.Repeat("n", 64),
	} {
		refuse("namespace-"+name, "No name of a namespace.", "namespace", "db", []string{"a", bad}, "k")
	}
	for name, bad := range map[string]string{
		"empty": "", "dot": ".", "two-dots": "..", "leading-two-dots": "..data", "slash": "a/b", "space": "a b", "not-ascii": "ä",
		"long": strings.Repeat("k", 254),
	} {
		refuse("key-"+name, "No key of a Secret.", "data-key", "db", nil, bad)
	}
}

func recipients() {
	good := ringKey.recipient()
	write("recipient", "good", "A native hybrid recipient.", "accepted", "recipient", good, "key id", ringKey.id())
	refuse := func(name, comment, expect, recipient string) {
		write("recipient", name, comment, expect, "recipient", recipient)
	}
	x := ringKey.public[1184:]
	refuse("private", "A private key where a public one belongs.", "private-key", ringKey.identity())
	refuse("private-classic", "A classic private key.", "private-key", strings.ToUpper(bech32("age-secret-key-", ringKey.seed, 1, 0)))
	refuse("private-lower-case", "A private key in lower case.", "private-key", strings.ToLower(ringKey.identity()))
	refuse("classic", "A classic age recipient.", "not-hybrid", bech32("age", x, 1, 0))
	refuse("tag", "A hardware key.", "not-hybrid", bech32("age1tag", cat([]byte{2}, x), 1, 0))
	refuse("tagpq", "A hybrid hardware key, whose classic half is P-256.", "not-hybrid", bech32("age1tagpq", cat(ringKey.public[:1184], []byte{2}, x), 1, 0))
	refuse("plugin", "A plugin's recipient.", "not-hybrid", bech32("age1yubikey", cat([]byte{2}, x), 1, 0))
	refuse("ssh", "An SSH key.", "damaged", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN")
	refuse("empty", "Nothing.", "damaged", "")
	refuse("upper-case", "All in upper case, which Bech32 allows and age does not.", "damaged", strings.ToUpper(good))
	refuse("mixed-case", "One character in upper case.", "damaged", good[:100]+strings.ToUpper(good[100:120])+good[120:])
	refuse("trailing-space", "White space behind it.", "damaged", good+" ")
	refuse("checksum", "A wrong checksum.", "damaged", nextBech32(good))
	refuse("bech32m", "Bech32m's checksum.", "damaged", bech32("age1pq", ringKey.public, 0x2bc830a3, 0))
	refuse("spare-bits", "A spare bit set, under a right checksum.", "damaged", bech32("age1pq", ringKey.public, 1, 1))
	refuse("short", "One byte too few.", "damaged", bech32("age1pq", ringKey.public[:1215], 1, 0))
	refuse("long", "One byte too many.", "damaged", bech32("age1pq", cat(ringKey.public, []byte{0}), 1, 0))
	refuse("other-prefix", "Another human-readable part of the same beginning.", "damaged", bech32("age1pq1q", ringKey.public, 1, 0))
	for i, point := range lowOrder {
		share := must(hex.DecodeString(point))
		refuse(fmt.Sprintf("low-order-%d", i), "An X25519 half of low order.", "weak", bech32("age1pq", cat(ringKey.public[:1184], share), 1, 0))
		refuse(fmt.Sprintf("low-order-%d-high-bit", i), "As without high-bit, with the bit set that X25519 ignores.", "weak",
			bech32("age1pq", cat(ringKey.public[:1184], flipped(share, 31, 0x80)), 1, 0))
	}
	unreduced := bytes.Clone(ringKey.public)
	unreduced[0], unreduced[1] = 0x01, unreduced[1]&0xf0|0x0d // 3329, the modulus itself
	if _, err := mlkem.NewEncapsulationKey768(unreduced[:1184]); err == nil {
		panic("an unreduced coefficient passes")
	}
	refuse("unreduced", "An ML-KEM coefficient that is not reduced (FIPS 203, section 7.2).", "weak", bech32("age1pq", unreduced, 1, 0))
}

// nextBech32 replaces a text's last character.
func nextBech32(text string) string {
	last := "q"
	if strings.HasSuffix(strings.ToLower(text), "q") {
		last = "p"
	}
	if text == strings.ToUpper(text) {
		last = strings.ToUpper(last)
	}
	return text[:len(text)-1] + last
}

func identities() {
	good := ringKey.identity()
	write("identity", "good", "A native hybrid identity.", "accepted", "identity", good,
		"seed", ringKey.seed, "recipient", ringKey.recipient(), "key id", ringKey.id())
	// The identity and the recipient of c2sp.org/age's own example are in the vectors of CCTV.
	zero := expand(make([]byte, 32))
	write("identity", "zeros", "A seed of zeros is a seed.", "accepted", "identity", zero.identity(),
		"seed", zero.seed, "recipient", zero.recipient(), "key id", zero.id())

	refuse := func(name, comment, expect, identity string) {
		write("identity", name, comment, expect, "identity", identity)
	}
	hrp := "age-secret-key-pq-"
	upper := func(b []byte, checksum uint32, spare byte) string {
		return strings.ToUpper(bech32(hrp, b, checksum, spare))
	}
	refuse("recipient", "A public key where a private one belongs.", "public-key", ringKey.recipient())
	refuse("classic", "A classic age identity.", "not-hybrid", strings.ToUpper(bech32("age-secret-key-", ringKey.seed, 1, 0)))
	refuse("lower-case", "All in lower case, which Bech32 allows and age does not.", "not-hybrid", strings.ToLower(good))
	refuse("plugin", "A plugin's identity.", "damaged", "AGE-PLUGIN-YUBIKEY-1QYQSZQGPQYQSZQGPQYQSZQGPTQHDF5")
	refuse("empty", "Nothing.", "damaged", "")
	refuse("mixed-case", "Some characters in lower case.", "damaged", good[:40]+strings.ToLower(good[40:50])+good[50:])
	refuse("leading-space", "White space before it.", "damaged", " "+good)
	refuse("trailing-space", "White space behind it.", "damaged", good+" ")
	refuse("checksum", "A wrong checksum.", "damaged", nextBech32(good))
	refuse("bech32m", "Bech32m's checksum.", "damaged", upper(ringKey.seed, 0x2bc830a3, 0))
	refuse("spare-bits", "A spare bit set, under a right checksum.", "damaged", upper(ringKey.seed, 1, 1))
	refuse("short", "One byte too few.", "damaged", upper(ringKey.seed[:31], 1, 0))
	refuse("long", "One byte too many.", "damaged", upper(cat(ringKey.seed, []byte{0}), 1, 0))
	refuse("other-prefix", "Another human-readable part of the same beginning.", "damaged", strings.ToUpper(bech32(hrp+"1q", ringKey.seed[:31], 1, 0)))
}

func wraps() {
	member, stranger := newKey("a member"), newKey("a stranger")
	classic := func(label string) *ecdh.PrivateKey { return must(ecdh.X25519().NewPrivateKey(random(label, 32))) }
	good := []byte(ringKey.identity() + "\n")

	// wrap writes one vector; stanzas and plaintext are what is usual where they are empty.
	wrap := func(name, comment, expect string, stanzas func(fileKey []byte) string, plaintext []byte, change func([]byte) []byte) {
		fileKey, nonce := random("file key of "+name, 16), random("nonce of "+name, 16)
		if stanzas == nil {
			stanzas = func(fileKey []byte) string {
				return hybrid(member, encapsulate(member.public, random("wrap "+name, 64), nil), fileKey)
			}
		}
		if plaintext == nil {
			plaintext = good
		}
		file := ageFile(stanzas(fileKey), fileKey, nonce, plaintext)
		if change != nil {
			file = change(file)
		}
		write("wrap", name, comment, expect, "member seed", member.seed, "member identity", member.identity(),
			"ring key seed", ringKey.seed, "ring key recipient", ringKey.recipient(), "file key", fileKey,
			"plaintext", plaintext, "wrap", base64.StdEncoding.EncodeToString(file))
	}
	to := func(who key, label string, fileKey []byte) string {
		return hybrid(who, encapsulate(who.public, random("wrap "+label, 64), nil), fileKey)
	}
	stanzas := func(name, comment, expect string, make func(fileKey []byte) string) {
		wrap(name, comment, expect, make, nil, nil)
	}
	plaintext := func(name, comment, expect, text string) { wrap(name, comment, expect, nil, []byte(text), nil) }
	changed := func(name, comment, expect string, change func([]byte) []byte) {
		wrap(name, comment, expect, nil, nil, change)
	}
	grease := func(size int) string { return stanza(random("grease", size), "xyz-grease", "a", "b") }

	wrap("good", "A wrap: one stanza, the identity and a line feed.", "unwrapped", nil, nil, nil)
	stanzas("grease", "A grease stanza on either side.", "unwrapped", func(fileKey []byte) string {
		return grease(0) + to(member, "grease", fileKey) + grease(100)
	})

	// The largest wrap, and one byte more. A byte of grease's body costs four thirds, its arguments one each.
	sized := func(size int) func([]byte) string {
		return func(fileKey []byte) string {
			bare := len(ageFile(to(member, "sized", fileKey), fileKey, make([]byte, 16), good))
			filler := stanza(nil, "xyz-grease", "a")
			return stanza(nil, "xyz-grease", strings.Repeat("a", 1+size-bare-len(filler))) + to(member, "sized", fileKey)
		}
	}
	stanzas("4096-bytes", "The largest wrap that is read.", "unwrapped", sized(4096))
	stanzas("4097-bytes", "One byte more than is read.", "too-large", sized(4097))

	stanzas("two-hybrid", "A second hybrid recipient.", "not-a-wrap", func(fileKey []byte) string {
		return to(member, "first", fileKey) + to(stranger, "second", fileKey)
	})
	stanzas("two-hybrid-other-first", "A second hybrid recipient, before the member.", "not-a-wrap", func(fileKey []byte) string {
		return to(stranger, "first", fileKey) + to(member, "second", fileKey)
	})
	stanzas("twice", "The member twice.", "not-a-wrap", func(fileKey []byte) string {
		return to(member, "first", fileKey) + to(member, "second", fileKey)
	})
	stanzas("and-classic", "A classic recipient beside the hybrid one, which undoes it.", "not-a-wrap", func(fileKey []byte) string {
		return to(member, "and-classic", fileKey) + x25519(classic("them").PublicKey(), classic("ephemeral"), fileKey)
	})
	stanzas("classic", "A classic recipient alone.", "not-a-wrap", func(fileKey []byte) string {
		return x25519(classic("them").PublicKey(), classic("ephemeral"), fileKey)
	})
	stanzas("member-as-classic", "The member's X25519 half as a classic recipient.", "not-a-wrap", func(fileKey []byte) string {
		return x25519(member.x25519.PublicKey(), classic("ephemeral"), fileKey)
	})
	stanzas("scrypt", "A passphrase.", "not-a-wrap", func(fileKey []byte) string {
		return stanza(random("scrypt", 32), "scrypt", "bBjlhJVYZeE4aqUdmtRHfw", "10")
	})
	stanzas("unknown-stanza", "A stanza of an unknown kind beside the right one.", "not-a-wrap", func(fileKey []byte) string {
		return to(member, "unknown-stanza", fileKey) + stanza(random("unknown", 32), "piv-p256", "xx")
	})
	stanzas("only-grease", "No recipient.", "not-a-wrap", func([]byte) string { return grease(10) })
	stanzas("stranger", "A good wrap, for somebody else.", "other-member", func(fileKey []byte) string {
		return to(stranger, "stranger", fileKey)
	})
	stanzas("extra-argument", "A second argument in the stanza.", "not-a-wrap", func(fileKey []byte) string {
		return hybrid(member, encapsulate(member.public, random("extra-argument", 64), nil), fileKey, "x")
	})
	stanzas("long-file-key", "A file key of 32 bytes.", "not-a-wrap", func(fileKey []byte) string {
		return to(member, "long-file-key", cat(fileKey, fileKey))
	})
	stanzas("short-share", "enc without its last byte.", "not-a-wrap", func(fileKey []byte) string {
		e := encapsulate(member.public, random("short-share", 64), nil)
		e.enc = e.enc[:1119]
		return hybrid(member, e, fileKey)
	})
	stanzas("spare-bits", "A spare bit set in enc's base64.", "not-a-wrap", func(fileKey []byte) string {
		lines := strings.SplitN(to(member, "spare-bits", fileKey), "\n", 2)
		return nextStandard(lines[0]) + "\n" + lines[1]
	})
	stanzas("padded-enc", "base64's padding behind enc.", "not-a-wrap", func(fileKey []byte) string {
		lines := strings.SplitN(to(member, "padded-enc", fileKey), "\n", 2)
		return lines[0] + "==\n" + lines[1]
	})
	for i, point := range lowOrder {
		stanzas(fmt.Sprintf("low-order-%d", i), "A share of low order in enc; the rest is right for whoever accepts it.", "not-a-wrap", func(fileKey []byte) string {
			share := must(hex.DecodeString(point))
			return hybrid(member, encapsulate(member.public, random(fmt.Sprint("low order ", i), 64), share), fileKey)
		})
	}

	plaintext("empty", "Holds nothing.", "no-key", "")
	plaintext("no-line-feed", "The line feed is missing.", "no-key", ringKey.identity())
	plaintext("two-line-feeds", "Two line feeds.", "no-key", string(good)+"\n")
	plaintext("crlf", "A carriage return before the line feed.", "no-key", ringKey.identity()+"\r\n")
	plaintext("extra", "Another line behind the identity.", "no-key", string(good)+"# a comment\n")
	plaintext("comment", "A comment before the identity, as in a file of age-keygen.", "no-key", "# created\n"+string(good))
	plaintext("two-identities", "Two identities.", "no-key", string(good)+otherKey.identity()+"\n")
	plaintext("long", "Much more than an identity.", "no-key", string(good)+strings.Repeat("x", 500))
	plaintext("lower-case", "The identity in lower case.", "no-key", strings.ToLower(string(good)))
	plaintext("classic-identity", "A classic identity.", "no-key", strings.ToUpper(bech32("age-secret-key-", ringKey.seed, 1, 0))+"\n")
	plaintext("public", "The public half.", "no-key", ringKey.recipient()+"\n")
	plaintext("seed", "The bare seed.", "no-key", string(ringKey.seed))
	plaintext("not-utf-8", "Not text.", "no-key", strings.Repeat("\xff", 77)+"\n")
	plaintext("other-key", "Another ring key than stands beside it.", "other-key", otherKey.identity()+"\n")
	plaintext("member-itself", "The member's own identity.", "other-key", member.identity()+"\n")

	changed("no-bytes", "No file.", "not-a-wrap", func([]byte) []byte { return nil })
	changed("base64", "base64 in base64.", "not-a-wrap", func(file []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(file)) })
	changed("armored", "age's armor.", "not-a-wrap", func(file []byte) []byte {
		text := base64.StdEncoding.EncodeToString(file)
		lines := slices.Collect(slices.Chunk([]byte(text), 64))
		return []byte("-----BEGIN AGE ENCRYPTED FILE-----\n" + string(bytes.Join(lines, []byte("\n"))) + "\n-----END AGE ENCRYPTED FILE-----\n")
	})
	changed("version-2", "Another version of age's format.", "not-a-wrap", func(file []byte) []byte {
		return bytes.Replace(file, []byte("org/v1\n"), []byte("org/v2\n"), 1)
	})
	changed("header-mac", "A wrong MAC of the header.", "not-a-wrap", func(file []byte) []byte {
		return flipped(file, bytes.Index(file, []byte("\n--- "))+10, 1)
	})
	changed("payload-bit", "One bit of the payload.", "not-a-wrap", func(file []byte) []byte { return flipped(file, len(file)-20, 1) })
	changed("cut", "The last byte is missing.", "not-a-wrap", func(file []byte) []byte { return file[:len(file)-1] })
	changed("cut-header", "Only the header.", "not-a-wrap", func(file []byte) []byte { return file[:1600] })
	changed("appended", "A byte behind the end.", "not-a-wrap", func(file []byte) []byte { return append(file, 0) })
	changed("leading-line", "An empty line before the file.", "not-a-wrap", func(file []byte) []byte { return append([]byte("\n"), file...) })
}

// nextStandard adds one to the value of a standard base64 text's last character.
func nextStandard(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.IndexByte(alphabet, text[len(text)-1])
	return text[:len(text)-1] + alphabet[last+1:last+2]
}

func proofs() {
	eu, recovery, us := newKey("member eu"), newKey("member recovery"), newKey("member us")
	members := []member{{"prod-eu", eu}, {"recovery", recovery}}
	keys := []key{ringKey, otherKey}

	// ring writes one vector: what the manifest lists, and a proof that was made over something.
	ring := func(name, comment, expect, ringName string, listed []member, keys []key, proof []byte, more ...any) {
		var members, seeds, recipients []string
		for _, member := range listed {
			members = append(members, member.name+" "+member.key.recipient())
		}
		for _, key := range keys {
			seeds = append(seeds, hex.EncodeToString(key.seed))
			recipients = append(recipients, key.recipient())
		}
		fields := []any{"ring", ringName, "member", members, "key", recipients, "key seed", seeds, "proof", any(proof)}
		if proof == nil {
			fields = fields[:8]
		}
		write("proof", name, comment, expect, append(fields, more...)...)
	}
	hmacKey, statement, proof := prove("prod", members, keys)
	ring("good", "Two members, two keys.", "proven", "prod", members, keys, proof, "hmac key", hmacKey, "statement", statement)
	hmacKey, statement, one := prove("default", members[:1], keys[:1])
	ring("one", "One member, one key.", "proven", "default", members[:1], keys[:1], one, "hmac key", hmacKey, "statement", statement)

	unproven := func(name, comment string, ringName string, members []member, keys []key) {
		ring(name, comment, "unproven", ringName, members, keys, proof)
	}
	unproven("other-name", "The proof of a ring of another name.", "test", members, keys)
	unproven("member-removed", "A member was removed.", "prod", members[:1], keys)
	unproven("member-added", "A member was added.", "prod", append(slices.Clone(members), member{"prod-us", us}), keys)
	unproven("member-renamed", "A member was renamed.", "prod", []member{{"prod-us", eu}, {"recovery", recovery}}, keys)
	unproven("member-replaced", "A member's recipient was replaced.", "prod", []member{{"prod-eu", us}, {"recovery", recovery}}, keys)
	unproven("members-reordered", "The members stand in another order.", "prod", []member{members[1], members[0]}, keys)
	unproven("names-swapped", "Two members have each other's names.", "prod", []member{{"prod-eu", recovery}, {"recovery", eu}}, keys)
	unproven("key-planted", "A key was appended.", "prod", members, append(slices.Clone(keys), newKey("planted")))
	unproven("key-removed", "The last key was removed.", "prod", members, keys[:1])
	unproven("keys-reordered", "The keys stand in another order.", "prod", members, []key{keys[1], keys[0]})
	ring("bit", "One bit of the proof.", "unproven", "prod", members, keys, flipped(proof, 31, 1))
	ring("zeros", "A proof of zeros.", "unproven", "prod", members, keys, make([]byte, 32))

	refuse := func(name, comment, expect, ringName string, members []member, keys []key) {
		ring(name, comment, expect, ringName, members, keys, nil)
	}
	refuse("no-members", "No member.", "member-count", "prod", nil, keys)
	refuse("no-keys", "No key.", "key-count", "prod", members, nil)
	refuse("ring-name", "A ring's name that is none.", "name", "Prod", members, keys)
	refuse("ring-name-dot", "A ring's name with a dot.", "name", "prod.eu", members, keys)
	refuse("ring-name-long", "A ring's name of 64 characters.", "name", strings.Repeat("r", 64), members, keys)
	refuse("member-name", "A member's name that is none.", "name", "prod", []member{{"prod_eu", eu}}, keys)
	refuse("member-name-repeated", "Two members of one name.", "repeated-member", "prod", []member{{"prod-eu", eu}, {"prod-eu", us}}, keys)
	refuse("member-repeated", "One recipient under two names.", "repeated-member", "prod", []member{{"prod-eu", eu}, {"prod-us", eu}}, keys)
	refuse("key-repeated", "One key twice.", "repeated-key", "prod", members, []key{ringKey, otherKey, ringKey})
	refuse("member-is-key", "A member that is a key of the ring.", "member-is-key", "prod", append(slices.Clone(members), member{"prod-us", otherKey}), keys)
}
