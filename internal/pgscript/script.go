package pgscript

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Script is a conversation as a client of a server that is not scripted has it, from the end of its login on: what it
// sends, and where it waits for answers, whatever they are. Play plays it.
type Script struct {
	Name  string
	Steps []Step
}

// Step is some messages and what is waited for behind them.
type Step struct {
	// Messages are sent one after the other. Each is the bytes of one message, or of less or more for a client that
	// breaks the protocol.
	Messages [][]byte
	// CloseWrite ends the client's direction of the connection behind the messages.
	CloseWrite bool
	// Until are types of messages from the server; each is waited for in turn. What comes in between is kept too.
	Until string
}

// ReadScripts reads scripts from a text. Lines that begin with # are comments, blank lines separate. The others are:
//
//	== name          begins a script
//	Query SELECT 1   a message, as Parse understands it
//	msg B "\x00\x00" a message by its type and its body, a string of Go
//	raw "\x00"       bytes as they are
//	close-write      the client sends no more, but still reads
//	> Z              waits for a message of this type; > ZZ for two of them, > H for one of that type
func ReadScripts(r io.Reader) ([]Script, error) {
	var scripts []Script
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "== "); ok {
			scripts = append(scripts, Script{Name: strings.TrimSpace(name)})
			continue
		}
		if len(scripts) == 0 {
			return nil, fmt.Errorf("line %d: %q stands in front of the first script", n, line)
		}
		if err := scripts[len(scripts)-1].add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return scripts, lines.Err()
}

// add appends what the line says. A wait ends a step.
func (s *Script) add(line string) error {
	if len(s.Steps) == 0 || s.Steps[len(s.Steps)-1].Until != "" {
		s.Steps = append(s.Steps, Step{})
	}
	step := &s.Steps[len(s.Steps)-1]
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case ">":
		step.Until = strings.TrimSpace(rest)
		return nil
	case "close-write":
		step.CloseWrite = true
		return nil
	}
	if step.CloseWrite {
		return fmt.Errorf("%q comes behind close-write", line)
	}
	b, err := encode(word, rest)
	if err != nil {
		return err
	}
	step.Messages = append(step.Messages, b)
	return nil
}

func encode(word, rest string) ([]byte, error) {
	switch word {
	case "raw":
		text, err := strconv.Unquote(rest)
		return []byte(text), err
	case "msg":
		typ, body, _ := strings.Cut(rest, " ")
		text, err := strconv.Unquote(body)
		if err != nil || len(typ) != 1 {
			return nil, fmt.Errorf("msg %s: want a letter and a string", rest)
		}
		return append(binary.BigEndian.AppendUint32([]byte(typ), uint32(len(text)+4)), text...), nil
	}
	msg, err := Parse(word + " " + rest)
	if err != nil {
		return nil, err
	}
	client, ok := msg.(pgproto3.FrontendMessage)
	if !ok {
		return nil, fmt.Errorf("%s is not a client's message", word)
	}
	return client.Encode(nil)
}
