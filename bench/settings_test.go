package main

import (
	"strings"
	"testing"
	"time"
)

func TestSumOfAddsTheSamplesOfOneMetric(t *testing.T) {
	t.Parallel()
	const text = `# TYPE sluice_pins_total counter
sluice_pins_total{reason="temp, or so",role="a b"} 2
sluice_pins_total{reason="set"} 1.5e1
sluice_pins_total_of_others{reason="set"} 100
sluice_up 1
`
	if got := sumOf(text, "sluice_pins_total"); got != 17 {
		t.Errorf("got %v, want 17", got)
	}
	if got := sumOf(text, "sluice_up"); got != 1 {
		t.Errorf("without labels: got %v, want 1", got)
	}
	if got := sumOf(text, "sluice_questions_total"); got != 0 {
		t.Errorf("of none: got %v, want 0", got)
	}
}

func TestScriptsDifferOnlyByTheSetting(t *testing.T) {
	t.Parallel()
	plain, setting := settingsScript(0), settingsScript(8)
	const set = "SELECT set_config('app.tenant', (:client_id % 8)::text, false);\n"
	if plain == setting || strings.Replace(setting, set, "", 1) != plain {
		t.Errorf("got\n%s\nand\n%s", plain, setting)
	}
}

func TestPgbenchRunsTheScriptInsteadOfItsOwn(t *testing.T) {
	t.Parallel()
	builtIn := strings.Join(load{mode: modeSimple, clients: 2}.arguments(1), " ")
	script := strings.Join(load{mode: modeSimple, clients: 2, script: "SELECT 1"}.arguments(1), " ")
	if !strings.HasPrefix(builtIn, "-S ") || strings.Contains(builtIn, "-f ") {
		t.Errorf("without a script: %s", builtIn)
	}
	if strings.Contains(script, "-S ") || !strings.Contains(script, "-f "+scriptFile) {
		t.Errorf("with a script: %s", script)
	}
}

func TestMeterBeginsBehindThePrelude(t *testing.T) {
	t.Parallel()
	m := meter{prelude: 250}
	seconds := 0
	lines := "progress: 1.0 s, 100.0 tps\nprogress: 2.0 s, 200.0 tps\nprogress: 3.0 s, 100.0 tps\nprogress: 4.0 s, 300.0 tps\nprogress: 5.0 s, 300.0 tps\n"
	err := m.follow(strings.NewReader(lines), func() (usage, error) {
		seconds++
		return usage{pooler: time.Duration(seconds) * time.Second}, nil
	})
	if err != nil || m.start.at != 3 || m.window != 600 || m.last.used.since(m.start.used).pooler != 2*time.Second {
		t.Errorf("got %+v, %v", &m, err)
	}
}
