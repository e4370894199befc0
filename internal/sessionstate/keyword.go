package sessionstate

// token is a lexical unit as far as the scanner tells them apart.
type token uint8

const (
	tokOther token = iota // numbers, parameters, operators
	tokString
	tokDot
	tokComma
	tokOpen
	tokClose

	// Names, and words that can be names.
	tokQuoted
	tokWord // an unquoted word that is none of those below

	// Words that mean something in places that the statement's state asks for.
	kwAbort
	kwAlter
	kwAnd
	kwCall
	kwCommit
	kwConstraints
	kwCreate
	kwDeallocate
	kwDiscard
	kwDo
	kwDrop
	kwEnd
	kwFunction
	kwGlobal
	kwGrant
	kwImport
	kwInto
	kwListen
	kwLoad
	kwLocal
	kwOn
	kwPrepare
	kwProcedure
	kwReassign
	kwReplace
	kwReset
	kwRevoke
	kwRollback
	kwSet
	kwTo
	kwTransaction
	kwTrue
	kwUnlisten
	kwWith

	// Tokens that are looked at wherever they stand.
	tokSemicolon // the end of the text too
	tokSetConfig
	kwBegin
	kwChain
	kwElse
	kwExecute
	kwHold
	kwLoop
	kwTemp // TEMPORARY too
	kwThen
	kwUescape
	kwUpdate
)

// keywordLengths holds for the first letter of a word which lengths, as bits, the keywords with it have.
var keywordLengths = [256]uint16{
	'a': 1<<3 | 1<<5, 'A': 1<<3 | 1<<5,
	'b': 1 << 5, 'B': 1 << 5,
	'c': 1<<4 | 1<<5 | 1<<6 | 1<<11, 'C': 1<<4 | 1<<5 | 1<<6 | 1<<11,
	'd': 1<<2 | 1<<4 | 1<<7 | 1<<10, 'D': 1<<2 | 1<<4 | 1<<7 | 1<<10,
	'e': 1<<3 | 1<<4 | 1<<7, 'E': 1<<3 | 1<<4 | 1<<7,
	'f': 1 << 8, 'F': 1 << 8,
	'g': 1<<5 | 1<<6, 'G': 1<<5 | 1<<6,
	'h': 1 << 4, 'H': 1 << 4,
	'i': 1<<4 | 1<<6, 'I': 1<<4 | 1<<6,
	'l': 1<<4 | 1<<5 | 1<<6, 'L': 1<<4 | 1<<5 | 1<<6,
	'o': 1 << 2, 'O': 1 << 2,
	'p': 1<<7 | 1<<9, 'P': 1<<7 | 1<<9,
	'r': 1<<5 | 1<<6 | 1<<7 | 1<<8, 'R': 1<<5 | 1<<6 | 1<<7 | 1<<8,
	's': 1 << 3, 'S': 1 << 3,
	't': 1<<2 | 1<<4 | 1<<9 | 1<<11, 'T': 1<<2 | 1<<4 | 1<<9 | 1<<11,
	'u': 1<<6 | 1<<7 | 1<<8, 'U': 1<<6 | 1<<7 | 1<<8,
	'w': 1 << 4, 'W': 1 << 4,
}

// keyword returns the token of an unquoted word.
func keyword(word string) token {
	if keywordLengths[word[0]]>>len(word)&1 == 0 {
		return tokWord
	}
	switch lower(word[0]) {
	case 'a', 'b', 'c':
		return keywordToC(word)
	case 'd', 'e', 'f', 'g':
		return keywordToG(word)
	case 'h', 'i', 'l', 'o', 'p':
		return keywordToP(word)
	case 'r', 's':
		return keywordToS(word)
	case 't', 'u', 'w':
		return keywordToW(word)
	}
	return tokWord
}

func keywordToC(word string) token {
	switch {
	case is(word, "and"):
		return kwAnd
	case is(word, "abort"):
		return kwAbort
	case is(word, "alter"):
		return kwAlter
	case is(word, "begin"):
		return kwBegin
	case is(word, "call"):
		return kwCall
	case is(word, "chain"):
		return kwChain
	case is(word, "commit"):
		return kwCommit
	case is(word, "create"):
		return kwCreate
	case is(word, "constraints"):
		return kwConstraints
	}
	return tokWord
}

func keywordToG(word string) token {
	switch {
	case is(word, "do"):
		return kwDo
	case is(word, "end"):
		return kwEnd
	case is(word, "drop"):
		return kwDrop
	case is(word, "else"):
		return kwElse
	case is(word, "grant"):
		return kwGrant
	case is(word, "global"):
		return kwGlobal
	case is(word, "discard"):
		return kwDiscard
	case is(word, "execute"):
		return kwExecute
	case is(word, "function"):
		return kwFunction
	case is(word, "deallocate"):
		return kwDeallocate
	}
	return tokWord
}

func keywordToP(word string) token {
	switch {
	case is(word, "on"):
		return kwOn
	case is(word, "hold"):
		return kwHold
	case is(word, "into"):
		return kwInto
	case is(word, "load"):
		return kwLoad
	case is(word, "loop"):
		return kwLoop
	case is(word, "local"):
		return kwLocal
	case is(word, "import"):
		return kwImport
	case is(word, "listen"):
		return kwListen
	case is(word, "prepare"):
		return kwPrepare
	case is(word, "procedure"):
		return kwProcedure
	}
	return tokWord
}

func keywordToS(word string) token {
	switch {
	case is(word, "set"):
		return kwSet
	case is(word, "reset"):
		return kwReset
	case is(word, "revoke"):
		return kwRevoke
	case is(word, "replace"):
		return kwReplace
	case is(word, "reassign"):
		return kwReassign
	case is(word, "rollback"):
		return kwRollback
	}
	return tokWord
}

func keywordToW(word string) token {
	switch {
	case is(word, "to"):
		return kwTo
	case is(word, "temp"), is(word, "temporary"):
		return kwTemp
	case is(word, "then"):
		return kwThen
	case is(word, "true"):
		return kwTrue
	case is(word, "with"):
		return kwWith
	case is(word, "update"):
		return kwUpdate
	case is(word, "uescape"):
		return kwUescape
	case is(word, "unlisten"):
		return kwUnlisten
	case is(word, "transaction"):
		return kwTransaction
	}
	return tokWord
}
