package pgscript

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Ends of a transcript that are no messages.
const (
	// End is the end of the connection, however it came.
	End = "END"
	// Silence is a message that was waited for and did not come in time.
	Silence = "SILENCE"
)

// Play sends what the script says on nc, on which a client has logged in, and returns what came: a line for each message
// with all that is in it, as Line writes it. Behind the script the client says Terminate and reads to the end of the
// connection. The connection is closed. A wait is given up after patience; then the transcript ends with Silence.
//
// What cannot be sent because the server has hung up is left out.
func (s Script) Play(nc net.Conn, cut Cut, patience time.Duration) (transcript []string) {
	defer nc.Close()
	r := &replies{nc: nc, patience: patience}
	for _, step := range s.Steps {
		_ = nc.SetWriteDeadline(time.Now().Add(patience))
		for _, part := range cut(step.Messages) {
			if _, err := nc.Write(part); err != nil {
				break
			}
		}
		if half, ok := nc.(interface{ CloseWrite() error }); ok && step.CloseWrite {
			_ = half.CloseWrite()
		}
		for _, typ := range []byte(step.Until) {
			if !r.until(typ) {
				return r.lines
			}
		}
	}
	_, _ = nc.Write([]byte("X\x00\x00\x00\x04"))
	r.until(0)
	return r.lines
}

// Cut says how messages that follow one another are cut into writes.
type Cut func(messages [][]byte) [][]byte

// Whole sends all messages in one write.
func Whole(messages [][]byte) [][]byte { return [][]byte{bytes.Join(messages, nil)} }

// maxSlow is how much of one message is sent byte by byte; the rest follows in one write.
const maxSlow = 512

// Bytewise sends every byte in a write of its own, but for what of a message lies behind its first 512 bytes.
func Bytewise(messages [][]byte) (writes [][]byte) {
	for _, m := range messages {
		for i := range min(len(m), maxSlow) {
			writes = append(writes, m[i:i+1])
		}
		if len(m) > maxSlow {
			writes = append(writes, m[maxSlow:])
		}
	}
	return writes
}

// Shifted cuts by bytes away from each boundary between two messages: 0 sends every message in a write of its own, 1 has
// each take the first byte of the next along, -1 leaves its last byte to the next.
func Shifted(by int) Cut {
	return func(messages [][]byte) (writes [][]byte) {
		all := bytes.Join(messages, nil)
		start, boundary := 0, 0
		for _, m := range messages {
			boundary += len(m)
			if at := boundary + by; at > start && at < len(all) {
				writes = append(writes, all[start:at])
				start = at
			}
		}
		return append(writes, all[start:])
	}
}

// replies reads what the server sends. It frames messages by itself, and so takes what pgproto3 would not.
type replies struct {
	nc       net.Conn
	patience time.Duration
	lines    []string
}

// until reads up to a message of this type, 0: to the end, and reports whether it came.
func (r *replies) until(typ byte) bool {
	for {
		_ = r.nc.SetReadDeadline(time.Now().Add(r.patience))
		var header [5]byte
		if _, err := io.ReadFull(r.nc, header[:]); err != nil {
			r.lines = append(r.lines, ending(err))
			return false
		}
		n := int(binary.BigEndian.Uint32(header[1:])) - 4
		if n < 0 || n > 1<<30 {
			r.lines = append(r.lines, fmt.Sprintf("%c with length %d", header[0], n))
			return false
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r.nc, body); err != nil {
			r.lines = append(r.lines, fmt.Sprintf("%c cut off", header[0]), ending(err))
			return false
		}
		r.lines = append(r.lines, Line(header[0], body))
		if header[0] == typ {
			return true
		}
	}
}

func ending(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Silence
	}
	return End
}

// Line writes a message of the server as a line that tells two apart unless they are equal, but for what differs from one
// connection to the next: process ids, secret keys, and the object ids of tables in RowDescription.
func Line(typ byte, body []byte) string {
	switch typ {
	case 'K':
		return fmt.Sprintf("K pid, key of %d bytes", len(body)-4)
	case 'A':
		return "A pid " + strconv.Quote(string(body[min(4, len(body)):]))
	case 'Z':
		return "Z " + string(body)
	case 'C', 'S':
		return fmt.Sprintf("%c %s", typ, strings.Join(strings.Split(strings.TrimSuffix(string(body), "\x00"), "\x00"), "="))
	case 'E', 'N':
		return fmt.Sprintf("%c %s", typ, strings.ReplaceAll(strings.TrimSuffix(string(body), "\x00\x00"), "\x00", " | "))
	case 'T':
		return "T " + strconv.Quote(string(maskTables(bytes.Clone(body))))
	}
	if len(body) == 0 {
		return string(rune(typ))
	}
	return fmt.Sprintf("%c %q", typ, body)
}

// maskTables writes ones over the object ids of tables in the body of a RowDescription, as far as it is well-formed.
func maskTables(body []byte) []byte {
	const behindName = 4 + 2 + 4 + 2 + 4 + 2 // table, column, type, its size, its modifier, format
	rest := body[min(2, len(body)):]
	for {
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(rest) < end+1+behindName {
			return body
		}
		if table := rest[end+1 : end+5]; binary.BigEndian.Uint32(table) != 0 {
			binary.BigEndian.PutUint32(table, 1)
		}
		rest = rest[end+1+behindName:]
	}
}
