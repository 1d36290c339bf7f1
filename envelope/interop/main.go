// Interop opens and makes seal1 values with Go's standard library alone. No program of Sealwright's is needed.
//
// It is the way to your secrets when everything else is gone, and the independent witness of the format: the tests of
// seal-envelope run it in both directions. The format is docs/design/envelope.md.
//
//	go run . open -i IDENTITY  -key KEY [-name NAME] [-namespaces A,B]  <token  >value
//	go run . seal -r RECIPIENT -key KEY [-name NAME] [-namespaces A,B]  <value  >token
//
// To get at a value out of Git, with a member's identity in recovery.txt:
//
//  1. The KeyRing's manifest has one entry under spec.keys for each ring key. Save the text under wraps that stands
//     beside your member's name as wrap.txt. With several keys, do this for each: step 3 tells whether it is the one.
//  2. base64 -d <wrap.txt | age -d -i recovery.txt >ring-key.txt
//  3. go run . open -i ring-key.txt -key password -name db -namespaces shop <token.txt
//
// In step 3, -name and -namespaces are what spec.sealedFor says in the SealedSecret (leave out what is absent there),
// and -key is the key under spec.encryptedData. Delete ring-key.txt afterwards.
//
// Needs Go 1.26 or newer, and age 1.3 or newer (go install filippo.io/age/cmd/age@latest).
package main

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 || args[0] != "open" && args[0] != "seal" {
		return errors.New("usage: open -i IDENTITY | seal -r RECIPIENT, -key KEY [-name NAME] [-namespaces A,B]")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	identity := flags.String("i", "", "file with the ring key, AGE-SECRET-KEY-PQ-1...")
	recipient := flags.String("r", "", "file with the ring key's public half, age1pq1...")
	key := flags.String("key", "", "the data key under which the token stands")
	name := flags.String("name", "", "spec.sealedFor.name; absent: any")
	namespaces := flags.String("namespaces", "", "spec.sealedFor.namespaces, separated by commas; absent: any")
	flags.Parse(args[1:])

	input, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	info := ctx(*name, *namespaces, *key)
	if args[0] == "open" {
		value, err := open(*identity, info, strings.TrimSpace(string(input)))
		if err == nil {
			_, err = out.Write(value)
		}
		return err
	}
	token, err := seal(*recipient, info, input)
	if err == nil {
		_, err = fmt.Fprintln(out, token)
	}
	return err
}

func open(identityFile string, info []byte, token string) ([]byte, error) {
	seed, err := readKey(identityFile, "AGE-SECRET-KEY-PQ-")
	if err != nil {
		return nil, err
	}
	ringKey, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(token, ".")
	if len(parts) != 4 || parts[0] != "seal1" {
		return nil, errors.New("not a seal1 token")
	}
	if id := keyID(ringKey.PublicKey()); parts[1] != id {
		return nil, fmt.Errorf("the token is sealed to key %s, this identity is %s", parts[1], id)
	}
	if parts[2] != placeTag(info) {
		return nil, errors.New("the token is sealed for another -key, -name or -namespaces")
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(parts[3])
	if err != nil {
		return nil, err
	}
	frame, err := hpke.Open(ringKey, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, payload)
	if err != nil {
		return nil, err
	}
	return unframe(frame)
}

func seal(recipientFile string, info, value []byte) (string, error) {
	public, err := readKey(recipientFile, "age1pq")
	if err != nil {
		return "", err
	}
	ringKey, err := hpke.MLKEM768X25519().NewPublicKey(public)
	if err != nil {
		return "", err
	}
	payload, err := hpke.Seal(ringKey, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, frame(value))
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(payload)
	return "seal1." + keyID(ringKey) + "." + placeTag(info) + "." + text, nil
}

// ctx is what a value is bound to: HPKE's info.
func ctx(name, namespaces, key string) []byte {
	var list []string
	if namespaces != "" {
		list = strings.Split(namespaces, ",")
		slices.Sort(list)
	}
	ctx := append(lp("sealwright.dev/seal1/value"), lp(name)...)
	ctx = binary.BigEndian.AppendUint32(ctx, uint32(len(list)))
	for _, namespace := range list {
		ctx = append(ctx, lp(namespace)...)
	}
	return append(ctx, lp(key)...)
}

// frame puts the length before the value, and zeros behind it up to the bucket.
func frame(value []byte) []byte {
	total := 4 + len(value)
	frame := make([]byte, bucket(total))
	binary.BigEndian.PutUint32(frame, uint32(total))
	copy(frame[4:], value)
	return frame
}

func unframe(frame []byte) ([]byte, error) {
	if len(frame) < 4 {
		return nil, errors.New("no frame")
	}
	total := uint64(binary.BigEndian.Uint32(frame))
	if total < 4 || total > 4+1<<20 || bucket(int(total)) != len(frame) || len(bytes.Trim(frame[total:], "\x00")) > 0 {
		return nil, errors.New("a frame that nobody makes")
	}
	return frame[4:total], nil
}

func bucket(total int) int {
	size := 64
	for size < total {
		if size < 4096 {
			size *= 2
		} else {
			size += 1024
		}
	}
	return size
}

func keyID(public hpke.PublicKey) string {
	id := sha256.Sum256(append(lp("sealwright.dev/key-id"), lp(bech32("age1pq", public.Bytes()))...))
	return base32Lower(id[:20])
}

func placeTag(ctx []byte) string {
	tag := sha256.Sum256(ctx)
	return base32Lower(tag[:5])
}

func base32Lower(b []byte) string { return strings.ToLower(base32.StdEncoding.EncodeToString(b)) }

func lp(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }

// readKey finds the one line of a file that begins with hrp and "1", and decodes it.
func readKey(file, hrp string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if data, found := strings.CutPrefix(line, hrp+"1"); found {
			key := unbech32(strings.ToLower(data))
			if again := bech32(strings.ToLower(hrp), key); again != strings.ToLower(line) {
				return nil, errors.New(file + ": a damaged key")
			}
			return key, nil
		}
	}
	return nil, errors.New(file + ": no line begins with " + hrp + "1")
}

const bech32Alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// unbech32 takes the bytes out of the data part; that the rest is right is seen by encoding them again.
func unbech32(data string) []byte {
	var out []byte
	bits, held := 0, 0
	for _, c := range data[:max(0, len(data)-6)] {
		bits, held = bits<<5|strings.IndexRune(bech32Alphabet, c)&31, held+5
		if held >= 8 {
			held -= 8
			out = append(out, byte(bits>>held))
		}
	}
	return out
}

// bech32 is BIP 173 without its length limit.
func bech32(hrp string, b []byte) string {
	var digits, check []byte
	bits, held := 0, 0
	for _, c := range b {
		for bits, held = bits<<8|int(c), held+8; held >= 5; held -= 5 {
			digits = append(digits, byte(bits>>(held-5)&31))
		}
		bits &= 1<<held - 1
	}
	if held > 0 {
		digits = append(digits, byte(bits<<(5-held)&31))
	}
	for _, c := range []byte(hrp) {
		check = append(check, c>>5)
	}
	check = append(check, 0)
	for _, c := range []byte(hrp) {
		check = append(check, c&31)
	}
	sum := 1
	for _, c := range append(append(check, digits...), 0, 0, 0, 0, 0, 0) {
		top := sum >> 25
		sum = (sum&0x1ffffff)<<5 ^ int(c)
		for i, generator := range []int{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= generator
			}
		}
	}
	sum ^= 1
	text := []byte(hrp + "1")
	for _, digit := range digits {
		text = append(text, bech32Alphabet[digit])
	}
	for shift := 25; shift >= 0; shift -= 5 {
		text = append(text, bech32Alphabet[sum>>shift&31])
	}
	return string(text)
}
