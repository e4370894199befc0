package scram

import (
	"testing"
	"unicode/utf8"
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"ascii", "user", "user"},
		{"ascii is taken as it is, controls included", "a\x07b", "a\x07b"},
		{"case is kept", "USER", "USER"},
		{"soft hyphen is dropped (RFC 4013)", "I\u00adX", "IX"},
		{"compatibility form (RFC 4013)", "\u00aa", "a"},
		{"roman nine (RFC 4013)", "\u2168", "IX"},
		{"composition", "e\u0301", "\u00e9"},
		{"no-break space", "a\u00a0b", "a b"},
		{"zero width space is a space first", "a\u200bb\u00e9", "a b\u00e9"},
		{"control beside non-ascii is prohibited", "\u00e9\x07", "\u00e9\x07"},
		{"private use is prohibited, nothing is changed", "\u00ad\ue000", "\u00ad\ue000"},
		{"direction mark is prohibited", "\u00aa\u200e", "\u00aa\u200e"},
		{"unassigned in Unicode 3.2", "\u00aa\U0001f600", "\u00aa\U0001f600"},
		{"assigned after Unicode 3.2", "\u00aa\u0221", "\u00aa\u0221"},
		{"nothing is left", "\u00ad\u200d", "\u00ad\u200d"},
		{"invalid UTF-8", "\u00aa\xff", "\u00aa\xff"},
		{"right to left", "\u0627\u00ad1\u0628", "\u06271\u0628"},
		{"right to left must end so (RFC 4013)", "\u06271\u00ad", "\u06271\u00ad"},
		{"right to left must begin so", "1\u00ad\u0627", "1\u00ad\u0627"},
		{"mixed directions", "\u0627a\u00ad\u0628", "\u0627a\u00ad\u0628"},
		{"plane 1", "\U0001d400", "A"},
		{"last of a range", "\U000e007f\u00aa", "\U000e007f\u00aa"},
	} {
		if got := prepare(tc.in); got != tc.want {
			t.Errorf("%s: prepare(%+q) = %+q, want %+q", tc.name, tc.in, got, tc.want)
		}
	}
}

func TestTablesAreRangesInOrder(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{"spaces": spaces, "nothing": nothing, "prohibited": prohibited,
		"rightToLeft": rightToLeft, "leftToRight": leftToRight, "unassigned": unassigned} {
		runes := []rune(table)
		if len(runes)%2 != 0 || !utf8.ValidString(table) {
			t.Errorf("%s: %d runes", name, len(runes))
		}
		for i := 1; i < len(runes); i++ {
			if runes[i] < runes[i-1] || (i%2 == 0 && runes[i] == runes[i-1]) {
				t.Errorf("%s: %U before %U", name, runes[i-1], runes[i])
			}
		}
	}
}

func FuzzPrepareChangesNoASCIIAndNeverEmpties(f *testing.F) {
	for _, s := range []string{"", "user", "I\u00adX", "\u0627\u0628", "\xff", "a\u0300\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := prepare(s)
		if (got == "") != (s == "") {
			t.Errorf("prepare(%q) = %q", s, got)
		}
		if isASCII(s) && got != s {
			t.Errorf("prepare(%q) = %q", s, got)
		}
	})
}
