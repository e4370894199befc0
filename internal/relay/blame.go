package relay

import (
	"bytes"
	"strings"

	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// maxBlamed is how much is kept of a text that pins.
const maxBlamed = 4 << 10 // 4 KiB

// carriedSignals are those of texts that only set or prepare what can be carried.
const carriedSignals = sessionstate.Set | sessionstate.SetConfig | prepares

// PinnedBy returns the beginning of the text that has pinned the session, empty if that is not known: code behind a statement
// may have done so. It is for Fingerprint; it may hold secrets.
func (m *Machine) PinnedBy() string {
	switch {
	case m.doubt == nil:
		return ""
	case m.pin == PinSequence:
		return m.doubt.asking
	}
	return m.doubt.blamed
}

// blame keeps the first text that may pin the session. One that only sets or prepares something gives way: that can be carried.
func (m *Machine) blame(s sessionstate.Signals, text string) {
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	d := m.doubt
	if d.blamed == "" || d.mild && !s.Within(carriedSignals) {
		d.blamed, d.mild = clip(text), s.Within(carriedSignals)
	}
}

// unpin ends the pin, and forgets the text. A number of a sequence may pin still.
func (m *Machine) unpin() {
	m.pin = ""
	if m.numbers.due {
		m.pin = PinSequence
	}
	m.doubt.blamed, m.doubt.mild = "", false
}

// blameAsking keeps the first text that asks for a number of a sequence.
func (m *Machine) blameAsking(text string) {
	if m.doubt == nil {
		m.doubt = &doubt{}
	}
	if m.doubt.asking == "" {
		m.doubt.asking = clip(text)
	}
}

func clip(text string) string {
	if len(text) > maxBlamed {
		return strings.Clone(text[:maxBlamed])
	}
	return text
}

// text returns the beginning of the SQL in a Query or Parse, as far as it is there.
func (c *call) text() string {
	text := c.body()
	switch c.typ {
	case wire.Query:
	case wire.Parse:
		_, text, _ = wire.CString(text)
	default:
		return ""
	}
	text = text[:min(len(text), maxBlamed)]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return string(text)
}
