package pgscript

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Format returns msg as a line that Parse understands, and for what Parse does not understand (start-up, secrets) as
// a line that can be read. Strings are quoted as in Go, NULL is bare.
func Format(msg pgproto3.Message) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", msg), "*pgproto3.")
	return strings.Join(append([]string{name}, fields(msg)...), " ")
}

// fields returns what stands behind a message's name. It is a table, hence its length.
func fields(msg pgproto3.Message) []string {
	switch m := msg.(type) {
	case *pgproto3.StartupMessage:
		out := []string{fmt.Sprintf("%d.%d", m.ProtocolVersion>>16, m.ProtocolVersion&0xffff)}
		for _, k := range slices.Sorted(maps.Keys(m.Parameters)) {
			out = append(out, quote(k), quote(m.Parameters[k]))
		}
		return out
	case *pgproto3.CancelRequest:
		return []string{number(m.ProcessID)}
	case *pgproto3.Query:
		return []string{quote(m.String)}
	case *pgproto3.Parse:
		return append([]string{quote(m.Name), quote(m.Query)}, numbers(m.ParameterOIDs)...)
	case *pgproto3.Bind:
		return append([]string{quote(m.DestinationPortal), quote(m.PreparedStatement)}, values(m.Parameters)...)
	case *pgproto3.Describe:
		return []string{bare(string([]byte{m.ObjectType})), quote(m.Name)}
	case *pgproto3.Close:
		return []string{bare(string([]byte{m.ObjectType})), quote(m.Name)}
	case *pgproto3.Execute:
		return []string{quote(m.Portal), number(m.MaxRows)}
	case *pgproto3.CopyData:
		return []string{quote(string(m.Data))}
	case *pgproto3.CopyFail:
		return []string{quote(m.Message)}
	case *pgproto3.FunctionCall:
		return append([]string{number(m.Function)}, values(m.Arguments)...)
	case *pgproto3.AuthenticationSASL:
		return m.AuthMechanisms
	case *pgproto3.ParameterStatus:
		return []string{quote(m.Name), quote(m.Value)}
	case *pgproto3.BackendKeyData:
		return []string{number(m.ProcessID), bare(hex.EncodeToString(m.SecretKey))}
	case *pgproto3.ReadyForQuery:
		return []string{bare(string([]byte{m.TxStatus}))}
	case *pgproto3.RowDescription:
		return columns(m)
	case *pgproto3.DataRow:
		return values(m.Values)
	case *pgproto3.CommandComplete:
		return []string{quote(string(m.CommandTag))}
	case *pgproto3.ErrorResponse:
		return report(m)
	case *pgproto3.NoticeResponse:
		return report((*pgproto3.ErrorResponse)(m))
	case *pgproto3.NotificationResponse:
		return []string{number(m.PID), quote(m.Channel), quote(m.Payload)}
	case *pgproto3.ParameterDescription:
		return numbers(m.ParameterOIDs)
	case *pgproto3.FunctionCallResponse:
		return values([][]byte{m.Result})
	case *pgproto3.NegotiateProtocolVersion:
		return append([]string{number(m.NewestMinorProtocol)}, m.UnrecognizedOptions...)
	}
	return nil
}

// Parse understands a line such as `Parse "s1" "SELECT $1" 23`. Strings need no quotes where they have no space; the
// texts of Query and CommandComplete need none at all. Results and parameters are in text format.
func Parse(line string) (pgproto3.Message, error) {
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	a := &args{words: words[1:]}
	msg := build(words[0].text, a)
	if msg == nil {
		return nil, fmt.Errorf("line %q: unknown message %q", line, words[0].text)
	}
	if len(a.words) > 0 {
		a.fail("%d words too many", len(a.words))
	}
	if a.err != nil {
		return nil, fmt.Errorf("line %q: %w", line, a.err)
	}
	return msg, nil
}

// build makes the named message, nil if there is none. It is a table, hence its length.
func build(name string, a *args) pgproto3.Message {
	switch name {
	case "Query":
		return &pgproto3.Query{String: a.text()}
	case "Parse":
		return &pgproto3.Parse{Name: a.text(), Query: a.text(), ParameterOIDs: a.numbers()}
	case "Bind":
		return &pgproto3.Bind{DestinationPortal: a.text(), PreparedStatement: a.text(), Parameters: a.values()}
	case "Describe":
		return &pgproto3.Describe{ObjectType: a.letter(), Name: a.text()}
	case "Close":
		return &pgproto3.Close{ObjectType: a.letter(), Name: a.text()}
	case "Execute":
		return &pgproto3.Execute{Portal: a.text(), MaxRows: a.optional()}
	case "Sync":
		return &pgproto3.Sync{}
	case "Flush":
		return &pgproto3.Flush{}
	case "Terminate":
		return &pgproto3.Terminate{}
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(a.text())}
	case "CopyDone":
		return &pgproto3.CopyDone{}
	case "CopyFail":
		return &pgproto3.CopyFail{Message: a.text()}
	case "FunctionCall":
		return &pgproto3.FunctionCall{Function: a.number(), Arguments: a.values()}
	case "ParameterStatus":
		return &pgproto3.ParameterStatus{Name: a.text(), Value: a.text()}
	case "BackendKeyData":
		return &pgproto3.BackendKeyData{ProcessID: a.number(), SecretKey: a.hex()}
	case "ReadyForQuery":
		return &pgproto3.ReadyForQuery{TxStatus: a.letter()}
	case "RowDescription":
		return a.columns()
	case "DataRow":
		return &pgproto3.DataRow{Values: a.values()}
	case "CommandComplete":
		return &pgproto3.CommandComplete{CommandTag: []byte(a.text())}
	case "ErrorResponse":
		return a.report()
	case "NoticeResponse":
		return (*pgproto3.NoticeResponse)(a.report())
	case "NotificationResponse":
		return &pgproto3.NotificationResponse{PID: a.number(), Channel: a.text(), Payload: a.text()}
	case "ParameterDescription":
		return &pgproto3.ParameterDescription{ParameterOIDs: a.numbers()}
	case "ParseComplete":
		return &pgproto3.ParseComplete{}
	case "BindComplete":
		return &pgproto3.BindComplete{}
	case "CloseComplete":
		return &pgproto3.CloseComplete{}
	case "NoData":
		return &pgproto3.NoData{}
	case "EmptyQueryResponse":
		return &pgproto3.EmptyQueryResponse{}
	case "PortalSuspended":
		return &pgproto3.PortalSuspended{}
	case "CopyInResponse":
		return &pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0}}
	case "CopyOutResponse":
		return &pgproto3.CopyOutResponse{ColumnFormatCodes: []uint16{0}}
	}
	return nil
}

// Matches reports whether line, which Format made, is what want asks for: want's words must be the first of line's,
// and a bare * stands for any one. So `ErrorResponse FATAL 53300` matches whatever the message's text is.
func Matches(want, line string) (bool, error) {
	wanted, err := split(want)
	if err != nil {
		return false, err
	}
	got, err := split(line)
	if err != nil {
		return false, err
	}
	if len(wanted) > len(got) {
		return false, nil
	}
	for i, w := range wanted {
		if w.text != got[i].text && (w.quoted || w.text != "*") || w.null() != got[i].null() {
			return false, nil
		}
	}
	return true, nil
}

// word is a part of a line. Only one that was not quoted can be NULL.
type word struct {
	text   string
	quoted bool
}

func (w word) null() bool { return w.text == "NULL" && !w.quoted }

func split(line string) ([]word, error) {
	var words []word
	rest := strings.TrimSpace(line)
	for rest != "" {
		w := word{quoted: rest[0] == '"'}
		switch {
		case w.quoted:
			q, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("line %q: string without end", line)
			}
			w.text, _ = strconv.Unquote(q)
			rest = strings.TrimSpace(rest[len(q):])
		case len(words) == 1 && (words[0].text == "Query" || words[0].text == "CommandComplete"):
			w.text, rest = rest, ""
		default:
			w.text, rest, _ = strings.Cut(rest, " ")
			rest = strings.TrimSpace(rest)
		}
		words = append(words, w)
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("line %q: empty", line)
	}
	return words, nil
}

func quote(s string) string  { return strconv.Quote(s) }
func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// bare quotes s unless it is a plain word.
func bare(s string) string {
	if s == "" || s == "NULL" || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return quote(s)
	}
	return s
}

func numbers(ns []uint32) (out []string) {
	for _, n := range ns {
		out = append(out, number(n))
	}
	return out
}

func values(vs [][]byte) (out []string) {
	for _, v := range vs {
		if v == nil {
			out = append(out, "NULL")
			continue
		}
		out = append(out, quote(string(v)))
	}
	return out
}

func columns(m *pgproto3.RowDescription) (out []string) {
	for _, f := range m.Fields {
		out = append(out, quote(string(f.Name)), number(f.DataTypeOID))
	}
	return out
}

func report(m *pgproto3.ErrorResponse) []string {
	out := []string{bare(m.Severity), bare(m.Code), quote(m.Message)}
	if m.Hint != "" {
		out = append(out, quote(m.Hint))
	}
	return out
}
