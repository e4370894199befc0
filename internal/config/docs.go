package config

import (
	"fmt"
	"reflect"
	"strings"
)

//go:generate go test -run TestDocumentationIsUpToDate -update .

// Markdown returns docs/config.md: every setting with its default, its unit or values, and whether a reload applies
// it.
func Markdown() string {
	var b strings.Builder
	b.WriteString(intro)
	describeBlock(&b, root(), "")
	b.WriteString("\n## From the environment\n\nThese variables go before the file. One that is empty counts as not set.\n\n")
	b.WriteString("| variable | setting |\n|---|---|\n")
	for _, o := range overrides() {
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", o.env, o.key)
	}
	fmt.Fprintf(&b, "| `%s` | the session listener's address, only with `--database-url` |\n", sessionAddressEnv)
	fmt.Fprintf(&b, "| `%s` | the transaction listener's address, only with `--database-url` |\n", transactionAddressEnv)
	b.WriteString("\n## Not yet supported\n\nThese values are part of the format and refused by this version.\n\n")
	b.WriteString("| setting | refused |\n|---|---|\n")
	for _, f := range features() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.setting, f.refused)
	}
	return b.String()
}

const intro = `<!-- Generated from internal/config by "make generate". Do not edit. -->

# Configuration

One YAML file, given as ` + "`sluice serve --config sluice.yaml`" + `. Every setting has a default but those marked *required*;
[examples/sluice.yaml](../examples/sluice.yaml) shows them all in place. ` + "`sluice check`" + ` names every problem with its line and key.

- A key that is not known, stands twice, or is there without a value is an error. A key that is absent has its default.
- Every value can be ` + "`env(NAME)`" + `, an environment variable, or ` + "`file(PATH)`" + `, what is in a file without its last line end. If that is
  missing, empty or unreadable, it is an error.
- Relative paths start at the folder of the configuration file.
- Durations look like ` + "`30s`" + `, ` + "`5m`" + ` or ` + "`1h30m`" + `; networks like ` + "`10.0.0.0/8`" + ` or ` + "`2001:db8::/32`" + `, and an address alone is the network
  of only that address.
- *live* settings apply on reload (SIGHUP), to clients and pools that are there too; *restart* settings when the process starts. A
  reload of a configuration with problems changes nothing.
`

// describeBlock writes a section for the settings directly in f, and then one for each block in it.
func describeBlock(b *strings.Builder, f field, path string) {
	list := fields(f.typ)
	title := "Top level"
	if path != "" {
		title = "`" + path + "`"
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if f.doc != "" {
		fmt.Fprintf(b, "%s.\n\n", sentence(f.doc))
	}
	b.WriteString("| key | default | values | reload | meaning |\n|---|---|---|---|---|\n")
	for _, s := range list {
		describe(b, s, path)
	}
	for _, s := range list {
		switch {
		case s.block():
			describeBlock(b, s, join(path, s.key))
		case !s.scalar() && s.element().block():
			describeBlock(b, s.element(), join(path, s.key)+"[]")
		}
	}
}

// describe writes the line of a setting; for a block it refers to the block's section.
func describe(b *strings.Builder, s field, path string) {
	if s.block() {
		fmt.Fprintf(b, "| `%s` | | block | | %s: see `%s` |\n", s.key, cell(s.doc), join(path, s.key))
		return
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", s.key, cell(s.documentedDefault()), cell(s.documentedValues()), s.reload, cell(s.doc))
}

func (f field) documentedDefault() string {
	switch {
	case f.required:
		return "*required*"
	case f.shown != "":
		return f.shown
	case f.typ == reflect.TypeFor[[]Listener]():
		return "`127.0.0.1:5432` session, `127.0.0.1:6543` transaction"
	case f.fallback != "":
		return "`" + strings.ReplaceAll(f.fallback, "'", "\"") + "`"
	case !f.scalar():
		return "`[]`"
	case f.typ.Kind() == reflect.Bool:
		return "`false`"
	case f.typ.Kind() == reflect.Int:
		return "`0`"
	default:
		return "empty"
	}
}

func (f field) documentedValues() string {
	if !f.scalar() {
		switch e := f.element(); {
		case e.block():
			return "list of blocks"
		case f.single:
			return "text, or a list"
		case e.unit == "" && len(e.oneOf) == 0:
			return "list"
		case e.unit != "":
			return "list of " + e.unit
		default:
			return "list of " + e.documentedValues()
		}
	}
	switch {
	case len(f.oneOf) > 0:
		return "`" + strings.Join(f.oneOf, "`, `") + "`"
	case f.typ.Kind() == reflect.Bool:
		return "`true`, `false`"
	case f.min != "":
		return strings.TrimSpace(f.unit + " ≥ " + f.min)
	case f.secret():
		return "secret"
	case f.unit != "":
		return f.unit
	default:
		return "text"
	}
}

// sentence returns text with a capital letter.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// cell returns text as the cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
