package proxy

import (
	"fmt"
	"log/slog"

	"sluice/internal/relay"
)

// maxNamed bounds the statements of a pool of which it is known that their surprises have been logged.
const maxNamed = 1000

// logSurprise names a change of the session that no statement's text had announced: a warning the first time that a
// statement makes one.
func (s *session) logSurprise(surprise *relay.Surprise) {
	level := slog.LevelDebug
	prints := make([]string, len(surprise.Statements))
	for i, statement := range surprise.Statements {
		prints[i] = fmt.Sprintf("%016x", statement)
		if s.lane.firstSurprise(statement) {
			level = slog.LevelWarn
		}
	}
	if len(prints) == 0 && s.lane.firstSurprise(0) {
		level = slog.LevelWarn
	}
	s.lane.srv.log.Log(s.lane.srv.ctx, level, "session changed without a word of it in a statement",
		append(s.attrs(), logStatements, prints, logNames, surprise.Names, logDiscarded, surprise.Discard)...)
}

// firstSurprise reports whether the statement has not made one before.
func (l *lane) firstSurprise(statement uint64) bool {
	if _, named := l.named[statement]; named || len(l.named) >= maxNamed {
		return false
	}
	if l.named == nil {
		l.named = make(map[uint64]struct{})
	}
	l.named[statement] = struct{}{}
	return true
}
