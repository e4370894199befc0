package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// alerts is a file of rules as Prometheus reads it.
type alerts struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert       string
			Expr        string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func TestAlertsAreAboutMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	file, err := os.Open("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	var a alerts
	if err := decoder.Decode(&a); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, g := range a.Groups {
		for _, r := range g.Rules {
			if g.Name == "" || r.Alert == "" || exprs[r.Alert] != "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("incomplete, or twice: %+v", r)
			}
			exprs[r.Alert] = r.Expr
			checkExpr(t, r.Expr)
		}
	}
	if got := exprs["SluiceManyFailedLogins"]; !regexp.MustCompile(`increase\(sluice_login_failures_total\[1h\]\)\) > 100$`).MatchString(got) {
		t.Errorf("more than 100 failed logins an hour: %q", got)
	}
}

// checkExpr checks that the metrics of an expression exist and have the labels that it sums by.
func checkExpr(t *testing.T, expr string) {
	t.Helper()
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("%s: brackets", expr)
	}
	names := regexp.MustCompile(`sluice_\w+`).FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s is about nothing of ours", expr)
	}
	for _, name := range names {
		i := slices.IndexFunc(catalogue(), func(f family) bool { return f.name == name })
		if i < 0 {
			t.Errorf("%s: there is no %s", expr, name)
			continue
		}
		labels := append([]string{"instance"}, catalogue()[i].labels...)
		if by := regexp.MustCompile(`by \(([^)]*)\)`).FindStringSubmatch(expr); by != nil {
			for _, label := range strings.Split(by[1], ", ") {
				if !slices.Contains(labels, label) {
					t.Errorf("%s: %s has no label %s", expr, name, label)
				}
			}
		}
	}
}
