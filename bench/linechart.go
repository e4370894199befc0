package main

import (
	"fmt"
	"math"
	"strings"
)

// Where the lines are in the picture, in pixels.
const (
	chartLeft   = 80
	chartRight  = 820
	chartHeight = 200
	namesApart  = 16
)

// lineChart shows what a transaction costs with more and more clients connected.
type lineChart struct {
	TitleY, SubtitleY int
	Grid              []chartLine
	Ticks             []chartTick
	Series            []series

	bottom int
}

type chartLine struct {
	Left, Right, LabelX int
	Y, LabelY           float64
	Label               string
}

type chartTick struct {
	X     float64
	Y     int
	Label string
}

type series struct {
	Name, Colour, Points string
	NameX, NameY         float64
	Dots                 []dot
}

type dot struct{ X, Y float64 }

// lineChart returns nil when it was not measured.
func (r *report) lineChart(top int) *lineChart {
	highest := 0.0
	for _, target := range []string{namePgBouncer, nameSluice} {
		for _, n := range connectedClients() {
			if value, ok := r.record.median(key{connectedName(n), target, metricCPU}); ok {
				highest = max(highest, value)
			}
		}
	}
	if highest == 0 {
		return nil
	}
	step := niceStep(highest / 4)
	ceiling := step * math.Ceil(highest/step)
	c := &lineChart{TitleY: top, SubtitleY: top + 20, bottom: top + chartHeight + 90}
	floor := float64(top + 44 + chartHeight)
	height := func(value float64) float64 { return math.Round((floor-value/ceiling*chartHeight)*10) / 10 }
	for value := 0.0; value <= ceiling; value += step {
		y := height(value)
		c.Grid = append(c.Grid, chartLine{chartLeft, chartRight, chartLeft - 8, y, y + 4, fmt.Sprintf("%g", value)})
	}
	for _, n := range connectedClients() {
		c.Ticks = append(c.Ticks, chartTick{connectedX(n), int(floor) + 20, connectedName(n)})
	}
	for i, target := range []string{namePgBouncer, nameSluice} {
		if s, ok := r.series(target, []string{"#616e7c", "#2b7bba"}[i], height); ok {
			c.Series = append(c.Series, s)
		}
	}
	c.spreadNames()
	return c
}

func (r *report) series(target, colour string, height func(float64) float64) (series, bool) {
	s := series{Name: target, Colour: colour}
	var points []string
	for _, n := range connectedClients() {
		value, ok := r.record.median(key{connectedName(n), target, metricCPU})
		if !ok {
			continue
		}
		d := dot{connectedX(n), height(value)}
		s.Dots = append(s.Dots, d)
		points = append(points, fmt.Sprintf("%g,%g", d.X, d.Y))
		s.NameX, s.NameY = d.X+12, d.Y+4
	}
	s.Points = strings.Join(points, " ")
	return s, len(points) > 0
}

// spreadNames moves apart the names of lines that end close to each other.
func (c *lineChart) spreadNames() {
	if len(c.Series) != 2 {
		return
	}
	upper, lower := &c.Series[0], &c.Series[1]
	if upper.NameY > lower.NameY {
		upper, lower = lower, upper
	}
	if missing := namesApart - (lower.NameY - upper.NameY); missing > 0 {
		upper.NameY -= missing / 2
		lower.NameY += missing / 2
	}
}

// connectedX is logarithmic.
func connectedX(n int) float64 {
	counts := connectedClients()
	first, last := math.Log(float64(counts[0])), math.Log(float64(counts[len(counts)-1]))
	const margin = 50
	x := chartLeft + margin + (math.Log(float64(n))-first)/(last-first)*(chartRight-chartLeft-2*margin)
	return math.Round(x*10) / 10
}

// niceStep returns 1, 2 or 5 times a power of ten, at least as large.
func niceStep(least float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= least {
			return factor * power
		}
	}
	return 10 * power
}
