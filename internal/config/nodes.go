package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What a YAML node is, in the words of messages.
const (
	kindNull  = "null"
	kindBlock = "a block of settings"
	kindList  = "a list"
	kindValue = "a single value"
	kindOther = "a tag that is not known"
)

var errText = errors.New("must be text: put it in quotes")

// parseYAML returns the only document in data. The error says in which line it stops being YAML.
func parseYAML(data []byte) (*yaml.Node, *Problem) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, &Problem{Message: "holds no settings"}
	}
	if err != nil {
		return nil, syntaxProblem(err)
	}
	switch err := d.Decode(&second); {
	case err == nil:
		return nil, &Problem{Line: second.Line, Message: "holds a second YAML document"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxProblem(err)
	}
	root := target(doc.Content[0])
	switch kind(root) {
	case kindNull:
		return nil, &Problem{Message: "holds no settings"}
	case kindBlock:
		return root, nil
	default:
		return nil, &Problem{Line: root.Line, Message: "must be a block of settings, got " + kind(root)}
	}
}

// syntaxProblem says what the YAML parser says, up to where it repeats the file: "*hunter2" is a password to whoever
// wrote it and the name of an anchor to the parser.
func syntaxProblem(err error) *Problem {
	m := regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`).FindStringSubmatch(err.Error())
	if m == nil {
		return &Problem{Message: "is not YAML"}
	}
	line, _ := strconv.Atoi(m[1]) // 0, no line, if the parser names none
	message, _, repeats := strings.Cut(m[2], " '")
	if repeats {
		message += " (a value that starts with * or & needs quotes)"
	}
	return &Problem{Line: line, Message: "is not YAML: " + message}
}

// target returns the node that an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func kind(n *yaml.Node) string {
	tag := n.ShortTag()
	switch {
	case tag == "!!null":
		return kindNull
	case n.Kind == yaml.MappingNode && tag == "!!map":
		return kindBlock
	case n.Kind == yaml.SequenceNode && tag == "!!seq":
		return kindList
	case n.Kind == yaml.ScalarNode && strings.HasPrefix(tag, "!!"):
		return kindValue
	default:
		return kindOther
	}
}

// fits reports what a literal scalar must be instead if YAML takes it for another type than f. Text may be a number,
// which is taken as it is written.
func fits(n *yaml.Node, f field) error {
	tag := n.ShortTag()
	switch {
	case f.typ.Kind() == reflect.Bool:
		if tag != "!!bool" {
			return errBool
		}
	case f.typ.Kind() == reflect.Int:
		if tag != "!!int" {
			return errInt
		}
	case !slices.Contains([]string{"!!str", "!!int", "!!float", "!!timestamp"}, tag):
		return errText
	}
	return nil
}

// pair is a key of a mapping with its value.
type pair struct {
	key   string
	line  int
	value *yaml.Node
}

// pairs returns what a mapping holds, with what it merges: its own keys win over those. A key that stands there twice
// is a problem.
func (w *walker) pairs(path string, n *yaml.Node, depth int) []pair {
	var list []pair
	var merges []*yaml.Node
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := target(n.Content[i]), n.Content[i+1]
		if k.ShortTag() == "!!merge" {
			merges = append(merges, v)
			continue
		}
		p := pair{key: k.Value, line: n.Content[i].Line, value: v}
		if first, dup := seen[p.key]; dup {
			w.problem(join(path, harmless(p.key)), p.line, "duplicate key, first in line %d", first)
			continue
		}
		seen[p.key] = p.line
		list = append(list, p)
	}
	for _, m := range merges {
		for _, p := range w.merged(path, m, depth+1) {
			if _, own := seen[p.key]; !own {
				seen[p.key] = p.line
				list = append(list, p)
			}
		}
	}
	return list
}

// merged returns what the value of a merge key gives: a mapping or a list of mappings, the first of which win.
func (w *walker) merged(path string, n *yaml.Node, depth int) []pair {
	n = target(n)
	if w.left -= 1 + len(n.Content); w.left < 0 || depth > maxMergeDepth {
		w.problem(join(path, "<<"), n.Line, "merges too much")
		w.left = min(w.left, 0)
		return nil
	}
	switch kind(n) {
	case kindBlock:
		return w.pairs(path, n, depth)
	case kindList:
		var list []pair
		for _, c := range n.Content {
			list = append(list, w.merged(path, c, depth+1)...)
		}
		return list
	default:
		w.problem(join(path, "<<"), n.Line, "must be a block of settings or a list of them, got %s", kind(n))
		return nil
	}
}

func isKey(known []field, key string) bool {
	return slices.ContainsFunc(known, func(f field) bool { return f.key == key })
}

// harmless returns an unknown key up to where it is not a plain word any more: in "password:hunter2" the space after
// the colon is missing, and what follows must not be shown.
func harmless(key string) string {
	const maxShown = 40
	word := regexp.MustCompile(`^[A-Za-z0-9_-]*`).FindString(key)
	word = word[:min(len(word), maxShown)]
	if word != key {
		word += "…"
	}
	return word
}

// quote returns text in quotes, cut to what fits a line.
func quote(text string) string { return fmt.Sprintf("%q", clip(text)) }

// clip returns text, cut to what fits a line.
func clip(text string) string {
	const maxShown = 80
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}
