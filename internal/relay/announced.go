package relay

import (
	"slices"
	"strings"

	"sluice/internal/sessionstate"
)

// announce keeps what a text with these signals may change, where that is to be told from what others have left.
func (d *doubt) announce(s sessionstate.Signals, text string) {
	d.anything = d.anything || s&(sessionstate.Do|sessionstate.Call) != 0 || len(d.texts)+len(text) > maxAnnounced || resetsAll(text)
	if !d.anything {
		d.texts += strings.ToLower(text) + "\n"
	}
}

// resetsAll reports whether a text may set everything back.
func resetsAll(text string) bool {
	before := ""
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' }) {
		if strings.EqualFold(word, "all") && (strings.EqualFold(before, "reset") || strings.EqualFold(before, "discard")) {
			return true
		}
		before = word
	}
	return false
}

// expects reports whether a text has announced a change of the setting, or what else the name stands for.
func (d *doubt) expects(name string) bool {
	name = strings.ToLower(name)
	return d.anything || strings.Contains(d.texts, name) || slices.ContainsFunc(changedBy(name), d.says)
}

func (d *doubt) says(word string) bool { return strings.Contains(d.texts, word) }

// changedBy returns words of texts that change something without naming it.
func changedBy(name string) []string {
	switch name {
	case "search_path":
		return []string{"schema"}
	case "role", "session_authorization":
		return []string{"authorization"}
	case "timezone":
		return []string{"zone"}
	case "client_encoding":
		return []string{"names"}
	case "xmloption":
		return []string{"xml"}
	case "default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable":
		return []string{"characteristics"}
	case pinUnlisten:
		return []string{"discard"}
	}
	return nil
}
