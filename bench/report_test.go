package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryGoalIsMeasured(t *testing.T) {
	t.Parallel()
	names := scenarioNames()
	for _, g := range goals() {
		for _, k := range []key{g.of, g.over} {
			if k == (key{}) {
				continue
			}
			if !slices.Contains(names, k.scenario) {
				t.Errorf("goal for %q: there is no such scenario", k.scenario)
			}
			if metricOf(k.metric).id != k.metric {
				t.Errorf("goal for %q: there is no metric %q", k.scenario, k.metric)
			}
		}
	}
	for _, s := range scenarios(time.Second) {
		if !slices.Contains(groups(), s.group) {
			t.Errorf("scenario %q: its group %q cannot be selected", s.name, s.group)
		}
	}
}

func TestTableShowsMediansRatiosAndGoals(t *testing.T) {
	t.Parallel()
	r := sampleReport()
	want := `Goals
                                                                    ratio  measured  at most  reached
  simple, 32 clients: pooler's CPU, µs per transaction       to PgBouncer      1.01     1.00        ✗
  prepared, 32 clients: pooler's CPU, µs per transaction     to PgBouncer      0.80     0.85        ✓
  idle clients: resident memory, bytes per idle client                  –     1,234    1,000        ✗
  10,000 connected: pooler's CPU, µs per transaction      to 10 connected      1.05     1.10        ✓

Pooler's CPU, µs per transaction
                        direct  PgBouncer  Sluice  ratio
  simple, 32 clients         –      10.00   10.10   1.01
  prepared, 32 clients       –      10.00    8.00   0.80
  10 connected               –          –    8.00      –
  10,000 connected           –          –    8.40      –

Throughput, transactions per second
                      direct  PgBouncer  Sluice  ratio
  simple, 32 clients  20,000     15,000  16,500   1.10

Resident memory, bytes per idle client
                direct  PgBouncer  Sluice  ratio
  idle clients       –      1,100   1,234   1.12

`
	if diff := cmp.Diff(want, r.text()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	for _, want := range []string{"**Goals**\n\n|  | ratio |", "|---|--:|--:|--:|--:|\n", "| idle clients | – | 1,100 | 1,234 | 1.12 |\n"} {
		if !strings.Contains(r.markdown(), want) {
			t.Errorf("markdown: %q is missing in\n%s", want, r.markdown())
		}
	}
}

func TestNumbersAreGrouped(t *testing.T) {
	t.Parallel()
	cases := []struct {
		value  float64
		digits int
		want   string
	}{{0.5, 2, "0.50"}, {999.94, 1, "999.9"}, {1234.56, 1, "1,234.6"}, {-36120, 0, "-36,120"}, {1002003, 0, "1,002,003"}}
	for _, c := range cases {
		if got := number(c.value, c.digits, true); got != c.want {
			t.Errorf("number(%v, %d): got %q, want %q", c.value, c.digits, got, c.want)
		}
	}
}

func TestPlotIsWellFormedAndKeepsItsRowsApart(t *testing.T) {
	t.Parallel()
	r := sampleReport()
	r.Sluice = `sluice <b> & "c"`
	content, err := r.plot()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := xml.NewDecoder(bytes.NewReader(content)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("SVG: %v in\n%s", err, content)
		}
	}
	p := r.layout()
	if len(p.Bars) != 3 || p.Lines == nil {
		t.Fatalf("layout: got %d bars, lines %v; want 3 and some", len(p.Bars), p.Lines)
	}
	for i, b := range p.Bars {
		if i > 0 && b.Y < p.Bars[i-1].Y+rowHeight || b.Y > p.Height || barLeft+b.Width > barRight {
			t.Errorf("bar %d is at %d, %g wide, in a picture of %d", i, b.Y, b.Width, p.Height)
		}
	}
	if want := ratioX(0.85); !p.Bars[1].Goal || p.Bars[1].GoalX != want {
		t.Errorf("goal of %q: got %+v, want it at %g", p.Bars[1].Label, p.Bars[1], want)
	}
	if !p.Bars[1].Good || p.Bars[0].Good {
		t.Error("a ratio of 0.80 must look good, one of 1.01 must not")
	}
}

func TestLinesEndWithNamesThatCanBeRead(t *testing.T) {
	t.Parallel()
	c := &lineChart{Series: []series{{NameY: 100}, {NameY: 102}}}
	c.spreadNames()
	if c.Series[1].NameY-c.Series[0].NameY != namesApart {
		t.Errorf("names are at %g and %g, want %d apart", c.Series[0].NameY, c.Series[1].NameY, namesApart)
	}
	for least, want := range map[float64]float64{0.3: 0.5, 1: 1, 1.2: 2, 3: 5, 7: 10, 70: 100} {
		if got := niceStep(least); got != want {
			t.Errorf("niceStep(%g): got %g, want %g", least, got, want)
		}
	}
}

func TestReplaceBetweenKeepsTheRest(t *testing.T) {
	t.Parallel()
	got, err := replaceBetween([]byte("a\n<b>\nold\n<e>\nz\n"), "<b>\n", "<e>\n", "new")
	if want := "a\n<b>\n\nnew\n<e>\nz\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := replaceBetween([]byte("a\n<e>\n"), "<b>\n", "<e>\n", "new"); err == nil {
		t.Error("without the first mark: got no error")
	}
}

func TestOptionsRefuseWhatCannotBeMeasured(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"-seconds", "3", "-only", "simple,idle"}, io.Discard)
	if err != nil || o.duration != 3*time.Second || !o.wants("idle") || o.wants("copy") {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-only", "fast"}, {"-seconds", "1"}, {"-rounds", "0"}, {"simple"}, {"-what"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}

// sampleReport has one round of a few scenarios.
func sampleReport() *report {
	rec := newRecord()
	put := func(scenario, target, metric string, value float64) {
		rec.forRound(scenario, 0).put(target, metric, value)
	}
	for _, c := range []struct {
		mode              string
		pgbouncer, sluice float64
	}{{modeSimple, 10, 10.1}, {modePrepared, 10, 8}} {
		put(pgbenchName(c.mode, fewClients), namePgBouncer, metricCPU, c.pgbouncer)
		put(pgbenchName(c.mode, fewClients), nameSluice, metricCPU, c.sluice)
	}
	put(pgbenchName(modeSimple, fewClients), nameDirect, metricRate, 20_000)
	put(pgbenchName(modeSimple, fewClients), namePgBouncer, metricRate, 15_000)
	put(pgbenchName(modeSimple, fewClients), nameSluice, metricRate, 16_500)
	put(idleName(false), namePgBouncer, metricMemory, 1100)
	put(idleName(false), nameSluice, metricMemory, 1234)
	put(connectedName(10), nameSluice, metricCPU, 8)
	put(connectedName(10_000), nameSluice, metricCPU, 8.4)
	r := &report{Date: "2026-01-02", Sluice: "sluice 1", PgBouncer: "PgBouncer 1", Postgres: "PostgreSQL 17", Rounds: 1, Seconds: 5, record: rec}
	r.fill()
	return r
}
