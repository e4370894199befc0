package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	settingValues  = 8 // from which clients choose when they set something
	settingPrelude = 3 // transactions of each client, by which all of them have
)

func settingsName(mode string, values int) string {
	name := fmt.Sprintf("%s, %s clients, script", mode, grouped(manyClients))
	if values == 0 {
		return name
	}
	return fmt.Sprintf("%s, each has set one of %d values", name, values)
}

// settingsScript is pgbench's SELECT by primary key, in front of which each client once sets one of some values; none: nothing.
func settingsScript(values int) string {
	set := ""
	if values > 0 {
		set = fmt.Sprintf("SELECT set_config('app.tenant', (:client_id %% %d)::text, false);\n", values)
	}
	return "\\if :started = 0\n\\set started 1\n" + set + "\\endif\n" +
		fmt.Sprintf("\\set aid random(1, %d)\n", scale*100_000) + "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
}

// settingOnce runs pgbench through a Sluice of its own, which is asked afterwards what carrying the settings took.
func settingOnce(mode string, values int, duration time.Duration) measurement {
	return func(ctx context.Context, r *rig, s sheet) error {
		p, metrics, err := r.startWatched(ctx)
		if err != nil {
			return err
		}
		defer p.stop()
		run, err := r.runPgbench(ctx, p.target, load{
			mode: mode, clients: manyClients, script: settingsScript(values), prelude: settingPrelude, duration: duration,
		})
		if err != nil {
			return err
		}
		run.put(p.target, s)
		text, err := fetch(ctx, metrics)
		if err != nil {
			return err
		}
		s.put(p.name, metricPins, sumOf(text, "sluice_pins_total"))
		s.put(p.name, metricQuestions, sumOf(text, "sluice_state_questions_total"))
		s.put(p.name, metricCarried, sumOf(text, "sluice_settings_carried_total")/sumOf(text, "sluice_transactions_total"))
		return nil
	}
}

// startWatched starts a Sluice that tells its metrics, at the URL. The caller must stop it.
func (r *rig) startWatched(ctx context.Context) (p *pooler, metrics string, err error) {
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	admin, err := freePort()
	if err != nil {
		return nil, "", err
	}
	s := r.settings(port)
	s.Admin = net.JoinHostPort(host, strconv.Itoa(admin))
	p, err = r.startPoolerWith(ctx, nameSluice, s)
	return p, "http://" + s.Admin + "/metrics", err
}

// fetch returns what a URL shows.
func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s", url, response.Status)
	}
	content, err := io.ReadAll(response.Body)
	return string(content), err
}

// sumOf adds up the samples of a metric.
func sumOf(text, name string) (sum float64) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), name)
		if !found || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err == nil {
			sum += value
		}
	}
	return sum
}
