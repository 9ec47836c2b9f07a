package field

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Rules are removed though somebody else changes the chains meanwhile, which makes iptables-restore refuse.
func TestRemoveRules(t *testing.T) {
	const rules = `*raw
-A PREROUTING -m comment --comment "lab-verify-rule RUN M1"
-A PREROUTING -m comment --comment "lab-verify-rule RUN M2" -j DROP
-A PREROUTING -m comment --comment "lab-verify-rule OTHER M1"
COMMIT
`
	one := `*raw
-D PREROUTING -m comment --comment "lab-verify-rule RUN M2" -j DROP
COMMIT
`
	both := strings.Replace(one, "-D", `-D PREROUTING -m comment --comment "lab-verify-rule RUN M1"`+"\n-D", 1)
	for name, test := range map[string]struct {
		tag     string
		refused int // how often
		tried   string
		ok      bool
	}{
		"nothing to remove": {"lab-verify-rule ANY", 0, "", true},
		"at once":           {"lab-verify-rule RUN", 0, both, true},
		"when others have":  {"lab-verify-rule RUN", 1, both + one, true},
		"never":             {"lab-verify-rule RUN", 9, both + one + one, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string, mode os.FileMode) {
				t.Helper()
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
					t.Fatal(err)
				}
			}
			write("rules", rules, 0o600)
			write("refusals", strings.Repeat("x\n", test.refused), 0o600)
			write("tried", "", 0o600)
			write("iptables-save", "#!/bin/sh\ncat rules\n", 0o700)
			// Where it refuses, the first rule is gone: somebody else has removed it.
			write("iptables-restore", "#!/bin/sh\ncat >>tried\n[ -s refusals ] || exit 0\nsed -i 1d refusals\nsed -i '/RUN M1/d' rules\necho 'Bad rule' >&2\nexit 1\n", 0o700)
			cmd := exec.Command("sh", "-c", removeRulesScript(test.tag))
			cmd.Dir, cmd.Env = dir, []string{fmt.Sprintf("PATH=%s:%s", dir, os.Getenv("PATH"))}
			out, err := cmd.CombinedOutput()
			if (err == nil) != test.ok {
				t.Errorf("it ends with %v: %s", err, out)
			}
			tried, err := os.ReadFile(filepath.Join(dir, "tried"))
			if err != nil || string(tried) != test.tried {
				t.Errorf("tried:\n%s\n%v\nwant:\n%s", tried, err, test.tried)
			}
		})
	}
}

func TestReadCounts(t *testing.T) {
	const text = `*raw
:PREROUTING ACCEPT [25:4666]
[0:0] -A PREROUTING -p icmp -m icmp --icmp-type 8 -m string --string "M1" --algo bm -m comment --comment "lab-verify-rule RUN M1 icmp request" -j DROP
[2:104] -A PREROUTING -d 10.244.1.4/32 -p tcp -m tcp --dport 4711 -m comment --comment "lab-verify-rule RUN M1 tcp request"
[9:999] -A PREROUTING -d 10.244.1.4/32 -p tcp -m tcp --dport 4711 -m comment --comment "lab-verify-rule OTHER M1 tcp request"
COMMIT
*filter
[7:700] -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
[5:300] -A FORWARD -p tcp -m comment --comment "lab-verify-rule RUN M1 tcp request"
COMMIT
`
	got, rules, err := readCounts(text, "lab-verify-rule RUN")
	if err != nil {
		t.Fatal(err)
	}
	want := map[Counted]int{
		{RawPrerouting, "M1 icmp request"}: 0, {RawPrerouting, "M1 tcp request"}: 2, {FilterForward, "M1 tcp request"}: 5,
	}
	if rules != 3 || len(got) != len(want) {
		t.Errorf("%d rules, counts %v", rules, got)
	}
	for at, n := range want {
		if got[at] != n {
			t.Errorf("%v: %d, want %d", at, got[at], n)
		}
	}
}
