package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc/PID/stat; it is 100 on every architecture Go runs on.
const ticksPerSecond = 100

var (
	errStat   = errors.New("malformed /proc/PID/stat")
	errStatus = errors.New("no VmRSS in /proc/PID/status")
)

// processStat is what is used of /proc/PID/stat.
type processStat struct {
	own      time.Duration // user and system time of all threads, those that have ended included
	children time.Duration // the same of children that were waited for, and of theirs
}

// parseStat reads /proc/PID/stat. The program's name stands in parentheses and may contain anything, parentheses and
// blanks as well.
func parseStat(content string) (processStat, error) {
	end := strings.LastIndexByte(content, ')')
	if end < 0 {
		return processStat{}, errStat
	}
	const utime = 11 // fields behind the name; it is the 14th in proc(5), where the name is the second
	fields := strings.Fields(content[end+1:])
	if len(fields) < utime+4 {
		return processStat{}, errStat
	}
	var ticks [4]int64
	for i := range ticks {
		var err error
		if ticks[i], err = strconv.ParseInt(fields[utime+i], 10, 64); err != nil {
			return processStat{}, fmt.Errorf("%w: %w", errStat, err)
		}
	}
	const tick = time.Second / ticksPerSecond
	return processStat{own: time.Duration(ticks[0]+ticks[1]) * tick, children: time.Duration(ticks[2]+ticks[3]) * tick}, nil
}

// parseRSS reads the resident memory, in bytes, from /proc/PID/status.
func parseRSS(content string) (int64, error) {
	for line := range strings.Lines(content) {
		value, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kib, ok := strings.CutSuffix(strings.TrimSpace(value), " kB")
		n, err := strconv.ParseInt(strings.TrimSpace(kib), 10, 64)
		if !ok || err != nil || n < 0 || n > 1<<50 {
			return 0, errStatus
		}
		return n << 10, nil
	}
	return 0, errStatus
}

// parsePIDs reads process numbers divided by white space, as in /proc/PID/task/TID/children.
func parsePIDs(content []byte) ([]int, error) {
	var pids []int
	for field := range bytes.FieldsSeq(content) {
		pid, err := strconv.Atoi(string(field))
		if err != nil || pid <= 0 {
			return nil, fmt.Errorf("process number %q: malformed", field)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// residentBytes returns how much memory of a process is resident.
func residentBytes(pid int) (int64, error) {
	content, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	return parseRSS(string(content))
}

// treeCPU returns what a process and all its children have used, those that have ended and were waited for included.
// Children of children count once their parent has waited for them and ended; Postgres's backends have none.
func treeCPU(pid int) (time.Duration, error) {
	content, err := os.ReadFile(procFile(pid, "task", strconv.Itoa(pid), "children"))
	if err != nil {
		return 0, err
	}
	children, err := parsePIDs(content)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, child := range children {
		used, err := processCPU(child)
		if err != nil {
			continue // it has ended since, and is among those its parent waited for
		}
		sum += used
	}
	own, err := processCPU(pid)
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return 0, err
	}
	parsed, err := parseStat(string(stat))
	return sum + own + parsed.children, err
}

func procFile(pid int, names ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, names...)...)
}
