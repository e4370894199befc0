package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	missing = "–"
	yes     = "✓"
	no      = "✗"
)

// section is a table with a title.
type section struct {
	title  string
	header []string
	rows   [][]string
}

// text shows the report on a terminal.
func (r *report) text() string {
	var out strings.Builder
	for _, s := range r.sections() {
		out.WriteString(s.text() + "\n")
	}
	return out.String()
}

// markdown shows the report in a README.
func (r *report) markdown() string {
	var out strings.Builder
	for _, s := range r.sections() {
		out.WriteString(s.markdown() + "\n")
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// sections are the goals and a table for each metric.
func (r *report) sections() []section {
	var all []section
	if goals := r.goalSection(); len(goals.rows) > 0 {
		all = append(all, goals)
	}
	for _, m := range metrics() {
		s := section{title: m.title + ", " + m.unit, header: []string{"", nameDirect, namePgBouncer, nameSluice, "ratio"}}
		for _, scenario := range scenarioNames() {
			if row, ok := r.row(scenario, m); ok {
				s.rows = append(s.rows, row)
			}
		}
		if len(s.rows) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// row shows what one scenario gave; false: nothing.
func (r *report) row(scenario string, m metric) ([]string, bool) {
	row, found := []string{scenario}, false
	for _, target := range []string{nameDirect, namePgBouncer, nameSluice} {
		value, ok := r.record.median(key{scenario, target, m.id})
		row, found = append(row, number(value, m.digits, ok)), found || ok
	}
	ratio, ok := r.record.ratio(key{scenario, nameSluice, m.id}, key{scenario, namePgBouncer, m.id})
	return append(row, number(ratio, 2, ok)), found
}

func (r *report) goalSection() section {
	s := section{title: "Goals", header: []string{"", "ratio", "measured", "at most", "reached"}}
	for _, g := range r.Goals {
		m := metricOf(g.Metric)
		digits, mark := 2, no
		if g.Against == "" && g.AtMost >= 100 {
			digits = 0
		}
		if g.Reached {
			mark = yes
		}
		against := g.Against
		if against == "" {
			against = missing
		}
		s.rows = append(s.rows, []string{
			g.Scenario + ": " + lowerFirst(m.title) + ", " + m.unit, against, number(g.Value, digits, true), number(g.AtMost, digits, true), mark,
		})
	}
	return s
}

func metricOf(id string) metric {
	for _, m := range metrics() {
		if m.id == id {
			return m
		}
	}
	panic("bug: metric " + id + " is not in the list")
}

// lowerFirst leaves names such as PgBouncer's alone, since no title begins with one.
func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// number writes a value with commas between thousands.
func number(value float64, digits int, ok bool) string {
	if !ok {
		return missing
	}
	if value < 0 {
		return "-" + number(-value, digits, true)
	}
	text := strconv.FormatFloat(value, 'f', digits, 64)
	whole, fraction, hasFraction := strings.Cut(text, ".")
	n, err := strconv.Atoi(whole)
	if err != nil || n < 1000 {
		return text
	}
	if hasFraction {
		return grouped(n) + "." + fraction
	}
	return grouped(n)
}

// text aligns the first column left and the others right.
func (s section) text() string {
	widths := make([]int, len(s.header))
	for _, row := range append([][]string{s.header}, s.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n", s.title)
	for _, row := range append([][]string{s.header}, s.rows...) {
		line := "  " + row[0] + strings.Repeat(" ", widths[0]-utf8.RuneCountInString(row[0]))
		for i, cell := range row[1:] {
			line += "  " + strings.Repeat(" ", widths[i+1]-utf8.RuneCountInString(cell)) + cell
		}
		out.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return out.String()
}

func (s section) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "**%s**\n\n| %s |\n|---|%s\n", s.title, strings.Join(s.header, " | "), strings.Repeat("--:|", len(s.header)-1))
	for _, row := range s.rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
	}
	return out.String()
}
