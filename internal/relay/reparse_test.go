package relay

import (
	"testing"

	"sluice/internal/prepared"
)

const steps = "B: E C:sluice_carry "

// TestStatementKeepsTheSettingsOfItsParse has a client prepare statements, set something else, and go on to other backends.
func TestStatementKeepsTheSettingsOfItsParse(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	tokyo, path := [4]string{"s", "TimeZone", "Asia/Tokyo", "UTC"}, [4]string{"s", "search_path", "x", "public"}
	r := newRig(t, Params{Table: table}).attach()
	r.client("P:sluice_1 S", "", parse("s", "select timestamptz '2020-01-01'"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.sets(true, "set TimeZone = 'Asia/Tokyo'", noRole, tokyo)
	r.m.Detach()

	second := NewBackend(10, application)
	r.attachTo(second).carry("P:sluice_set B:sluice_set E S")
	r.answer("", "", parsed, bound, row, done, idle)
	r.client("P: "+steps+"P:sluice_2 "+steps+"B:sluice_2 E S", "", bind("s"), exec, syncMsg)
	r.answer("", "2 D C Z:I", parsed, bound, row, done, closed, parsed, bound, row, done, closed, bound, row, done, idle)
	r.client("B:sluice_2 E S", "", bind("s"), exec, syncMsg) // once
	r.answer("", "2 D C Z:I", bound, row, done, idle)

	other := newRig(t, Params{Table: table}) // who has the same history shares it
	other.m.names.Swap("t", table.Intern([]byte("select timestamptz '2020-01-01'\x00\x00\x00")))
	other.m.state = r.m.state
	r.m.Detach()
	other.attachTo(second).carry("")
	other.client("B:sluice_2 E S", "", bind("t"), exec, syncMsg)
	other.answer("", "2 D C Z:I", bound, row, done, idle)
	other.m.Detach()

	r.attachTo(second).carry("") // with another search_path Postgres would look at it again
	r.sets(true, "set search_path = x", noRole, tokyo, path)
	r.client("P:sluice_3 B:sluice_3 E S", "", bind("s"), exec, syncMsg)
	r.answer("", "2 D C Z:I", parsed, bound, row, done, idle)
}

func TestStatementThatIsParsedBehindASettingKeepsThat(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	r := newRig(t, Params{Table: table}).attach()
	r.client("Q:begin; set TimeZone = 'Asia/Tokyo'", "", query("begin; set TimeZone = 'Asia/Tokyo'"))
	r.answer("", "C Z:T", done, inBlock)
	r.client("P:sluice_2 S", "", parse("s", "select timestamptz '2020-01-01'"), syncMsg)
	r.answer("", "1 Z:T", parsed, inBlock)
	r.client("Q:commit", "", query("commit"))
	r.answer(questionWords, "C Z:I", done, idle)
	r.answer("", "", held(true, noRole, [4]string{"s", "TimeZone", "Asia/Tokyo", "UTC"})...)
	r.m.Detach()

	r.attachTo(NewBackend(10, application)).carry("P:sluice_set B:sluice_set E S")
	r.answer("", "", parsed, bound, row, done, idle)
	r.client("P:sluice_2 B:sluice_2 E S", "", bind("s"), exec, syncMsg) // as it was parsed
	r.answer("", "2 D C Z:I", parsed, bound, row, done, idle)
	r.sets(true, "reset TimeZone", noRole)
	r.client("P: "+steps+"P:sluice_3 "+steps+"B:sluice_3 E S", "", bind("s"), exec, syncMsg)
}

func TestStatementUnderTheClientsNameKeepsTheSettingsOfItsParse(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("s", "select timestamptz '2020-01-01'"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.sets(true, "set TimeZone = 'Asia/Tokyo'", noRole, [4]string{"s", "TimeZone", "Asia/Tokyo", "UTC"})
	r.client("P: "+steps+"P:s S Q:execute s", "", query("execute s"))
	r.answer("", "D C Z:I", parsed, bound, row, done, closed, parsed, idle, row, done, idle)
}

func TestStatementThatCannotBeParsedAgainChangesNoSetting(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("s", "select timestamptz '2020-01-01' from gone"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.sets(true, "set TimeZone = 'Asia/Tokyo'", noRole, [4]string{"s", "TimeZone", "Asia/Tokyo", "UTC"})
	for range 2 {
		r.client("P: "+steps+"P:sluice_2 "+steps+"B:sluice_2 E S", "", bind("s"), exec, syncMsg)
		r.answer("", "E:42601 Z:I", parsed, bound, row, done, closed, errSyntax, idle) // what was set ends with the transaction
		r.wantPinned("")
		if !r.m.Free() {
			t.Error("not free")
		}
	}
}
