package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, but not as it should, or not for long
	Problem Level = "problem" // something does not work
)

// Finding is one thing that was looked at. It holds no secrets.
type Finding struct {
	Level  Level    `json:"level"`
	Text   string   `json:"text"`             // what is so
	Detail []string `json:"detail,omitempty"` // lines behind it
	Advice string   `json:"advice,omitempty"` // what to do
	SQL    []string `json:"sql,omitempty"`    // statements that do it
}

// Block is what was found about one subject.
type Block struct {
	Subject  string    `json:"subject"`
	Findings []Finding `json:"findings"`
}

// Report is what was found.
type Report struct {
	Blocks []Block `json:"blocks"`
}

// Count returns how many findings have that level.
func (r *Report) Count(level Level) int {
	n := 0
	for _, b := range r.Blocks {
		for _, f := range b.Findings {
			if f.Level == level {
				n++
			}
		}
	}
	return n
}

// add adds a finding, and returns it to be completed.
func (b *Block) add(level Level, format string, args ...any) *Finding {
	b.Findings = append(b.Findings, Finding{Level: level, Text: fmt.Sprintf(format, args...)})
	return &b.Findings[len(b.Findings)-1]
}

func (b *Block) ok(format string, args ...any) { b.add(OK, format, args...) }

// warn adds what works, with what would be better.
func (b *Block) warn(advice, format string, args ...any) {
	b.add(Warning, format, args...).Advice = advice
}

// problem adds what does not work, with what to do about it.
func (b *Block) problem(advice, format string, args ...any) {
	b.add(Problem, format, args...).Advice = advice
}

// WriteText writes the report for a terminal.
func (r *Report) WriteText(w io.Writer) error {
	var text strings.Builder
	for i, b := range r.Blocks {
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(b.Subject + "\n")
		for _, f := range b.Findings {
			fmt.Fprintf(&text, "  %-8s %s\n", f.Level, plain(f.Text))
			for _, line := range f.Detail {
				fmt.Fprintf(&text, "             %s\n", plain(line))
			}
			if f.Advice != "" {
				fmt.Fprintf(&text, "           > %s\n", plain(f.Advice))
			}
			for _, statement := range f.SQL {
				for line := range strings.SplitSeq(statement, "\n") {
					fmt.Fprintf(&text, "             %s\n", plain(line))
				}
			}
		}
	}
	fmt.Fprintf(&text, "\n%s\n", r.summary())
	_, err := io.WriteString(w, text.String())
	return err
}

// summary is the report in a line.
func (r *Report) summary() string {
	problems, warnings := r.Count(Problem), r.Count(Warning)
	switch {
	case problems+warnings == 0:
		return "all is well"
	case problems == 0:
		return plural(warnings, "warning")
	}
	return plural(problems, "problem") + ", " + plural(warnings, "warning")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// plain returns text in which nothing is left that a terminal would obey: some of it comes from servers.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
