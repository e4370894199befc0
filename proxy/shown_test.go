package proxy

import "testing"

func TestShownIsBoundedAndPrintable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"alice", "alice"},
		{"Å \"b\"", "Å \"b\""},
		{"12345678", "12345678"},
		{"123456789", "12345678…"},
		{"1234567å", "1234567…"},
		{"a\nb", `"a\nb"`},
		{"a\x1b[2J", `"a\x1b[2J"`},
		{"a\u009bJ", `"a\u009bJ"`},
		{"a\u202eb", `"a\u202eb"`},
		{"a\xffb", `"a\xffb"`},
		{"12345678\n", "12345678…"},
		{"\xff23456789", `"\xff2345678"…`},
	} {
		if got := shown(tt.text, 8); got != tt.want {
			t.Errorf("shown(%q, 8) = %s, want %s", tt.text, got, tt.want)
		}
	}
}
