package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"text/template"
)

//go:embed plot.svg.tmpl
var plotTemplate string

// Where things are in the picture, in pixels.
const (
	plotWidth   = 960
	labelRight  = 330
	barLeft     = 342
	barRight    = 702
	valueLeft   = 714
	rowHeight   = 22
	headingRoom = 34
	mostRatio   = 1.5 // a longer bar is cut off; its number stands beside it
)

// plot is what the template draws; all positions are in pixels.
type plot struct {
	Width, Height        int
	About, Headings      []plotText
	Grid                 []gridLine
	Bars                 []bar
	LegendY, LegendTextY int
	Lines                *lineChart
}

type plotText struct {
	Y    int
	Text string
}

type gridLine struct {
	X, Top, Bottom, LabelY int
	Label                  string
	Strong                 bool
}

type bar struct {
	Label, Ratio, Values        string
	LabelX, X, Y, TextY, ValueX int
	Width, GoalX                float64
	Goal, Good                  bool
	GoalTop, GoalBottom         int
}

// plotted lists the metrics that are drawn as bars.
func plotted() []string {
	return []string{metricCPU, metricTogether, metricSyscalls, metricAdded, metricMemory, metricLogin, metricStorm, metricCopy}
}

// shown leaves out what says nothing new, or little: the added latency of loads that keep the machine busy.
func shown(scenario, metric string) bool {
	switch metric {
	case metricTogether:
		return !strings.HasSuffix(scenario, " connected")
	case metricAdded:
		return strings.HasSuffix(scenario, " probe")
	}
	return true
}

// plot draws the report as an SVG.
func (r *report) plot() ([]byte, error) {
	t, err := template.New("plot").Parse(plotTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r.layout()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// layout goes from the top to the bottom.
func (r *report) layout() *plot {
	p := &plot{Width: plotWidth}
	p.About = []plotText{
		{58, fmt.Sprintf("%s, %s, %s; %s", r.Sluice, r.PgBouncer, r.Postgres, r.Date)},
		{76, fmt.Sprintf("%s, Linux %s; medians of %d rounds of %g s", r.Machine, r.Kernel, r.Rounds, r.Seconds)},
	}
	const top = 112
	y := top
	for _, id := range plotted() {
		y = r.layoutMetric(p, metricOf(id), y)
	}
	p.layoutGrid(top, y)
	p.LegendY, p.LegendTextY = y+22, y+33
	p.Height = y + 56
	if p.Lines = r.lineChart(y + 84); p.Lines != nil {
		p.Height = p.Lines.bottom
	}
	return p
}

// layoutMetric adds a heading and a bar for each scenario and returns where the next thing begins.
func (r *report) layoutMetric(p *plot, m metric, y int) int {
	var bars []bar
	for _, scenario := range scenarioNames() {
		if b, ok := r.bar(scenario, m); ok && shown(scenario, m.id) {
			bars = append(bars, b)
		}
	}
	if len(bars) == 0 {
		return y
	}
	p.Headings = append(p.Headings, plotText{y + 20, m.title + ", " + m.unit})
	y += headingRoom
	for _, b := range bars {
		b.LabelX, b.X, b.ValueX = labelRight, barLeft, valueLeft
		b.Y, b.TextY = y-2, y+10
		b.GoalTop, b.GoalBottom = y-5, y+15
		p.Bars = append(p.Bars, b)
		y += rowHeight
	}
	return y
}

// bar compares the two poolers in one scenario.
func (r *report) bar(scenario string, m metric) (bar, bool) {
	of, over := key{scenario, nameSluice, m.id}, key{scenario, namePgBouncer, m.id}
	ratio, ok := r.record.ratio(of, over)
	if !ok {
		return bar{}, false
	}
	sluice, _ := r.record.median(of)
	pgbouncer, _ := r.record.median(over)
	b := bar{
		Label:  scenario,
		Ratio:  number(ratio, 2, true),
		Values: number(sluice, m.digits, true) + " / " + number(pgbouncer, m.digits, true),
		Width:  ratioX(ratio) - barLeft,
		Good:   reached(ratio, 1),
	}
	for _, g := range goals() {
		if g.of != of || (g.over != over && g.over != key{}) {
			continue
		}
		b.Goal, b.GoalX = true, ratioX(g.atMost)
		if g.over == (key{}) {
			b.GoalX = ratioX(g.atMost / pgbouncer)
		}
	}
	return b, true
}

func ratioX(ratio float64) float64 {
	x := barLeft + min(ratio, mostRatio)/mostRatio*(barRight-barLeft)
	return math.Round(x*10) / 10
}

func (p *plot) layoutGrid(top, bottom int) {
	for i := range 7 {
		ratio := float64(i) * 0.25
		p.Grid = append(p.Grid, gridLine{
			X: int(ratioX(ratio)), Top: top, Bottom: bottom, LabelY: top - 6, Label: fmt.Sprintf("%.2f", ratio), Strong: ratio == 1,
		})
	}
}
