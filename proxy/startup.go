package proxy

import (
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// startup is what a client asks for in its StartupMessage.
type startup struct {
	user        string // as typed: role, or role.tenant
	database    string
	application string
	replication bool
	tenants     []string     // tenants named by options
	params      []wire.Param // for Postgres, in order; each name once
	unknown     []string     // _pq_. options
}

// parseStartup sorts a StartupMessage's parameters into what is ours and what is Postgres's.
func parseStartup(r *wire.Request) (*startup, *endError) {
	s := &startup{}
	inOptions := ""
	for _, p := range r.Params {
		switch {
		case p.Name == "user":
			s.user = p.Value
		case p.Name == "database":
			s.database = p.Value
		case p.Name == "application_name":
			s.application = cleanName(p.Value)
		case p.Name == "replication":
			s.replication = p.Value != "" && !isFalse(p.Value)
		case p.Name == "options":
			options, tenants := splitOptions(p.Value)
			s.tenants = append(s.tenants, tenants...)
			inOptions = applicationIn(p.Value)
			if options != "" {
				s.set("options", options)
			}
		case strings.HasPrefix(p.Name, "_pq_."):
			s.unknown = append(s.unknown, p.Name)
		default:
			s.set(p.Name, p.Value)
		}
	}
	if s.application == "" { // a parameter of its own counts more, as in Postgres
		s.application = inOptions
	}
	if s.user == "" {
		return nil, &endError{reason: ReasonInvalidStartup}
	}
	if s.replication {
		return nil, &endError{reason: ReasonFeatureNotSupported, message: "replication connections are not supported by Sluice"}
	}
	return s, nil
}

// set sets a parameter; the last value counts, as in Postgres.
func (s *startup) set(name, value string) {
	for i := range s.params {
		if s.params[i].Name == name {
			s.params[i].Value = value
			return
		}
	}
	s.params = append(s.params, wire.Param{Name: name, Value: value})
}

// negotiation returns the one NegotiateProtocolVersion that a client of a newer minor version, or with options that we do
// not know, is owed; nil for others. Protocol: "Start-up".
func negotiation(r *wire.Request, s *startup) wire.Message {
	if r.Minor() == 0 && len(s.unknown) == 0 {
		return nil
	}
	return &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: wire.Version30, UnrecognizedOptions: s.unknown}
}

// splitOptions takes what is meant for Sluice out of the options parameter: -c sluice.tenant=NAME, --sluice.tenant=NAME
// and reference=NAME. What is left is Postgres's, in its own words. Backslashes escape, as in Postgres.
func splitOptions(options string) (rest string, tenants []string) {
	var kept []string
	eachOption(options, func(words []string, name, value string) {
		if name == "sluice.tenant" || name == "reference" {
			tenants = append(tenants, value)
		} else {
			kept = append(kept, words...)
		}
	})
	if len(tenants) == 0 {
		return options, nil
	}
	return strings.Join(kept, " "), tenants
}

// applicationIn returns the application_name that stands in the options parameter, empty if none does.
func applicationIn(options string) (application string) {
	eachOption(options, func(_ []string, name, value string) {
		if name == "application_name" {
			application = cleanName(value)
		}
	})
	return application
}

// eachOption calls f for each option: its one or two words as they stand, and the setting that they make.
func eachOption(options string, f func(words []string, name, value string)) {
	words := optionWords(options)
	for i := 0; i < len(words); {
		word, used := words[i], 1
		setting := ""
		switch {
		case word == "-c" && i+1 < len(words):
			setting, used = words[i+1], 2
		case strings.HasPrefix(word, "--"), strings.HasPrefix(word, "-c"):
			setting = word[2:]
		case strings.HasPrefix(word, "reference="):
			setting = word
		}
		name, value, _ := strings.Cut(setting, "=")
		f(words[i:i+used], name, unescape(value))
		i += used
	}
}

// optionWords splits at white space that no backslash escapes; the backslashes stay.
func optionWords(s string) []string {
	var words []string
	start, escaped := -1, false
	for i := 0; i < len(s); i++ {
		space := s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r' || s[i] == '\v' || s[i] == '\f'
		switch {
		case space && !escaped && start >= 0:
			words = append(words, s[start:i])
			start = -1
		case (!space || escaped) && start < 0:
			start = i
		}
		escaped = s[i] == '\\' && !escaped
	}
	if start >= 0 {
		words = append(words, s[start:])
	}
	return words
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isFalse(s string) bool {
	switch strings.ToLower(s) {
	case "false", "off", "no", "0", "f", "n":
		return true
	}
	return false
}

// maxName is the longest name that Postgres keeps of an application (NAMEDATALEN - 1).
const maxName = 63

// cleanName makes of an application_name what Postgres makes of it: at most 63 bytes of printable ASCII.
func cleanName(s string) string {
	b := []byte(s[:min(len(s), maxName)])
	for i, c := range b {
		if c < 32 || c > 126 {
			b[i] = '?'
		}
	}
	return string(b)
}

// baselineKey tells backends apart that were opened with different parameters; the order of names does not matter.
func baselineKey(params []wire.Param) string {
	sorted := append([]wire.Param(nil), params...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	var b strings.Builder
	for _, p := range sorted {
		fmt.Fprintf(&b, "%s\x00%s\x00", p.Name, p.Value)
	}
	return b.String()
}
