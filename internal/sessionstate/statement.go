package sessionstate

// state is what the scanner waits for in a statement.
type state uint8

const (
	running          state = iota // nothing but the words that count everywhere
	starting                      // the statement's first token
	afterSet                      // SET
	afterSetLocal                 // SET LOCAL, SET TRANSACTION, SET CONSTRAINTS
	afterPrepare                  // PREPARE
	afterPrepareTx                // PREPARE TRANSACTION
	afterExecute                  // EXECUTE
	afterExecuteFunc              // EXECUTE FUNCTION, in a CREATE
)

// configCall follows a call of set_config to its end, to see whether its last argument is the literal true.
type configCall struct {
	open   bool
	depth  int // of parentheses
	commas int // between its own arguments
	first  int // tokens in its first argument; a literal counts as one, anything else as two
	param  int // the parameter that is in it, should it be nothing else
	third  int // tokens in its third argument
}

// feed takes the next token; most of them mean nothing.
func (s *scanner) feed(t token) {
	if s.state != running || t >= tokSemicolon || s.call.open {
		s.judge(t)
	}
	s.prev = t
}

func (s *scanner) judge(t token) {
	if s.call.open {
		s.argument(t)
	}
	if s.state != running {
		s.decide(t)
	}
	if t >= tokSemicolon {
		s.everywhere(t)
	}
}

// decide settles what a word waited for its successor to tell. Several of them are names too: SET local.x = 1 sets a
// variable for the session, PREPARE transaction AS … prepares, EXECUTE function(1) executes.
func (s *scanner) decide(t token) {
	was := s.state
	s.state = running
	switch was {
	case starting:
		s.lead = t
		s.begin(t)
	case afterSet:
		if t == kwLocal || t == kwTransaction || t == kwConstraints {
			s.state = afterSetLocal
			return
		}
		s.found |= Set
	case afterSetLocal:
		s.found |= either(t != kwTo && isName(t), Local, Set)
	case afterPrepare:
		if t == kwTransaction {
			s.state = afterPrepareTx
			return
		}
		s.found |= Prepare
	case afterPrepareTx:
		s.found |= either(t == tokString, Commit, Prepare)
	case afterExecute:
		s.executes(t)
	case afterExecuteFunc:
		if t == kwWith || !isName(t) {
			s.found |= either(s.body, Dynamic, Execute)
		}
	}
}

// executes judges what follows EXECUTE: a privilege's ON, a trigger's FUNCTION, or something to run.
func (s *scanner) executes(t token) {
	switch {
	case t == kwOn:
	case s.lead == kwCreate && (t == kwFunction || t == kwProcedure):
		s.state = afterExecuteFunc
	default:
		s.found |= either(s.body, Dynamic, Execute)
	}
}

// begin judges the first token of a statement.
func (s *scanner) begin(t token) {
	switch t {
	case kwSet:
		s.state = afterSet
		s.collector.sets()
	case kwPrepare:
		s.state = afterPrepare
	case kwReset:
		s.found |= Set
		s.collector.sets()
	case kwDeallocate:
		s.found |= Deallocate
	case kwDiscard:
		s.found |= Discard
	case kwListen:
		s.found |= Listen
	case kwUnlisten:
		s.found |= Unlisten
	case kwLoad:
		s.found |= Load
	case kwDo:
		s.found |= Do
	case kwCall:
		s.found |= Call
	case kwCommit:
		s.found |= Commit
	case kwEnd:
		s.found |= either(s.body, 0, Commit)
	case kwCreate, kwAlter, kwDrop, kwGrant, kwRevoke, kwImport, kwReassign:
		s.found |= DDL
	}
}

// everywhere judges the words that count in any place of a statement.
func (s *scanner) everywhere(t token) {
	switch t {
	case tokSemicolon:
		s.state = starting
	case tokSetConfig:
		s.call = configCall{open: true}
	case kwExecute:
		s.state = afterExecute
	case kwTemp:
		switch s.prev {
		case kwCreate, kwReplace, kwLocal, kwGlobal, kwInto:
			s.found |= Temp
		}
	case kwHold:
		s.found |= either(s.prev == kwWith, Hold, 0)
	case kwUescape:
		s.found |= Ambiguous // some character hides others in the name or string before
	case kwUpdate:
		s.updates = true
	case kwChain:
		// What a chained ROLLBACK leaves open is a transaction again: treated as the COMMIT it looks like.
		s.found |= either(s.prev == kwAnd && (s.lead == kwRollback || s.lead == kwAbort), Commit, 0)
	case kwBegin, kwThen, kwElse, kwLoop:
		if s.body {
			s.state = starting
		}
	}
}

// argument follows a call of set_config by one token. A call that is not a plain one, or has another in its
// arguments, counts as one for the session.
func (s *scanner) argument(t token) {
	c := &s.call
	switch {
	case t == tokOpen:
		c.depth++
		if c.depth == 1 {
			return
		}
	case t == tokClose && c.depth == 1:
		c.open = false
		s.found |= either(c.commas == 2 && c.third == 1 && s.prev == kwTrue, Local, SetConfig)
		return
	case t == tokClose:
		c.depth--
	case t == tokComma && c.depth == 1:
		switch {
		case c.commas > 0 || c.first == 1:
		case c.first == 2 && c.param > 0:
			s.collector.parameter(c.param)
		default:
			s.collector.hidden()
		}
		c.commas++
		return
	}
	if c.depth <= 0 || t == tokSemicolon || t == tokSetConfig {
		c.open = false
		s.found |= SetConfig
		s.collector.hidden()
		return
	}
	switch {
	case c.commas == 0 && t == tokString:
		c.first++
	case c.commas == 0:
		c.first += 2
	case c.commas == 2:
		c.third++
	}
}

// isName reports whether t can be an identifier.
func isName(t token) bool { return t >= tokQuoted && t != tokSemicolon }

func either(claim bool, yes, no Signals) Signals {
	if claim {
		return yes
	}
	return no
}
