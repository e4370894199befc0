package pgscript

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// md5Answer is what answers AuthenticationMD5Password.
func md5Answer(user, password string, salt [4]byte) string {
	inner := md5.Sum([]byte(password + user))
	outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), salt[:]...))
	return "md5" + hex.EncodeToString(outer[:])
}

// scramClient is the client's side of SCRAM-SHA-256 without channel binding, written here once more so that tests have
// a peer that is independent of the product's. Passwords are taken as they are, without SASLprep.
type scramClient struct {
	nonce     string
	signature []byte
}

func (s *scramClient) first() pgproto3.FrontendMessage {
	s.nonce = rand.Text()
	return &pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=" + s.nonce)}
}

func (s *scramClient) answer(password string, serverFirst []byte) (pgproto3.FrontendMessage, error) {
	parts := strings.Split(string(serverFirst), ",")
	if len(parts) < 3 || !strings.HasPrefix(parts[0], "r="+s.nonce) || len(parts[1]) < 2 || len(parts[2]) < 2 {
		return nil, fmt.Errorf("SCRAM: server said %q", serverFirst)
	}
	salt, err := base64.StdEncoding.DecodeString(parts[1][2:])
	if err != nil {
		return nil, fmt.Errorf("SCRAM: salt: %w", err)
	}
	rounds, err := strconv.Atoi(parts[2][2:])
	if err != nil {
		return nil, fmt.Errorf("SCRAM: iterations: %w", err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return nil, err
	}
	clientKey := mac(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	final := "c=biws," + parts[0]
	auth := "n=,r=" + s.nonce + "," + string(serverFirst) + "," + final
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, clientKey, mac(storedKey[:], auth))
	s.signature = mac(mac(salted, "Server Key"), auth)
	return &pgproto3.SASLResponse{Data: []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof))}, nil
}

func (s *scramClient) verify(serverFinal []byte) error {
	if string(serverFinal) != "v="+base64.StdEncoding.EncodeToString(s.signature) {
		return errors.New("SCRAM: the server does not know the password either")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
