//go:build e2e

package e2e

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// names says what in a lab the addresses, MACs, nodes and devices of a page stand for, and the other way round.
type names map[string]string

// ways are what the names of a page can stand for: with rows in any order there may be more than one.
type ways []names

// fits are the ways, of those that are known, in which printed lines are those of a page; none where they are not. Each name
// stands for one thing throughout a page, and no two for the same. All else is the same, apart from white space and from
// numbers that mean nothing, which blur leaves out. A page's line of an ellipsis stands for any lines. Under the heads of a
// table, which are in capitals, rows come in any order, and so do routes one below the other: it is that of the lab's names.
func (known ways) fits(page, printed []string) (all ways) {
	for _, n := range known {
		all = append(all, n.fits(page, printed)...)
	}
	return all.distinct()
}

// maxWays bounds what is kept of tables whose rows are much alike.
const maxWays = 500

// distinct leaves out what is there twice.
func (known ways) distinct() (all ways) {
	for _, n := range known {
		if len(all) < maxWays && !slices.ContainsFunc(all, func(other names) bool { return maps.Equal(n, other) }) {
			all = append(all, n)
		}
	}
	return all
}

func (n names) fits(page, printed []string) (all ways) {
	if len(page) == 0 {
		if len(printed) == 0 {
			all = ways{n}
		}
		return all
	}
	if page[0] == "…" {
		for skip := range len(printed) + 1 {
			all = append(all, n.fits(page[1:], printed[skip:])...)
		}
		return all
	}
	if routes := leading(route, page); routes > 1 {
		if len(printed) < routes {
			return nil
		}
		return n.fitsRows(page[:routes], printed[:routes]).fits(page[routes:], printed[routes:])
	}
	if len(printed) == 0 {
		return nil
	}
	now, ok := fitsLine(n, page[0], printed[0])
	if !ok {
		return nil
	}
	if head.MatchString(page[0]) {
		return now.fitsRows(page[1:], printed[1:])
	}
	return now.fits(page[1:], printed[1:])
}

var head = regexp.MustCompile(`^[A-Z]+( +[A-Z]+)+$`)

// route is a route as ip lists it: by its destination, so those of a lab come in another order than those of a page.
var route = regexp.MustCompile(`^` + address + `(/\d+)? (via|dev) `)

// leading is how many of the first lines match.
func leading(pattern *regexp.Regexp, of []string) (n int) {
	for n < len(of) && pattern.MatchString(of[n]) {
		n++
	}
	return n
}

// fitsRows is fits for lines in any order.
func (n names) fitsRows(page, printed []string) (all ways) {
	if len(page) == 0 {
		if len(printed) == 0 {
			all = ways{n}
		}
		return all
	}
	if page[0] == "…" { // the last one: what is left
		if len(page) == 1 {
			all = ways{n}
		}
		return all
	}
	for i, row := range printed {
		now, ok := fitsLine(n, page[0], row)
		if !ok {
			continue
		}
		all = append(all, now.fitsRows(page[1:], slices.Delete(slices.Clone(printed), i, i+1))...)
		if len(all) > maxWays {
			break
		}
	}
	return all.distinct()
}

// naming finds what has another name in each lab.
var naming = regexp.MustCompile(`(?i)\b(?:(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|lxc[0-9a-f]{8}|control-plane|worker\d*|` + address + `)\b`)

const address = `\d{1,3}(?:\.\d{1,3}){3}`

func fitsLine(known names, page, printed string) (names, bool) {
	page, printed = blur(page), blur(printed)
	if naming.ReplaceAllString(page, "NAME") != naming.ReplaceAllString(printed, "NAME") {
		return nil, false
	}
	now := maps.Clone(known)
	in := naming.FindAllString(printed, -1)
	for i, name := range naming.FindAllString(page, -1) {
		here, there := "page "+strings.ToLower(name), "lab "+strings.ToLower(in[i])
		if has, ok := now[here]; ok && has != there {
			return nil, false
		}
		if has, ok := now[there]; ok && has != here {
			return nil, false
		}
		now[here], now[there] = there, here
	}
	return now, true
}

// blur writes a line without what means nothing: times, ports and numbers that the kernel chose.
func blur(line string) string {
	for _, r := range []struct {
		pattern *regexp.Regexp
		by      string
	}{
		{regexp.MustCompile(`\s+`), " "},
		{regexp.MustCompile(`\b10\.0\.0\.0/(8|12)\b`), "CIDR/$1"},      // the same in each lab, where an address is not
		{regexp.MustCompile(`/\d+ proto kernel\b`), "/N proto kernel"}, // Docker's network is as large as Docker makes it
		{regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d+\b`), "TIME"},
		{regexp.MustCompile(`\b\d{3,} packets transmitted, \d{3,} received\b`), "hundreds sent and received"}, // the loss tells whether they are as many
		{regexp.MustCompile(`\b\d+(\.\d+)?( ?ms|µs)\b|\b(\d+[hms])+\b`), "LONG"},
		{regexp.MustCompile(`\b(id|prog_id|link_id|cgroup|index) \d+`), "$1 N"},
		{regexp.MustCompile(`(@if|lxc[0-9a-f]{8}\()\d+`), "${1}N"},
		{regexp.MustCompile(`\b(` + address + `) \d+ (\d+ [a-z-]+/)`), "$1 N $2"}, // endpoint, before its identity
		{regexp.MustCompile(`\b(` + address + `) \d+ \d+ `), "$1 N N "},           // endpoint and interface
		{regexp.MustCompile(`\bendpoint (\d+|\?)(->)?(\d+|\?)?`), "endpoint N"},
		{regexp.MustCompile(`\b(ICMP ` + address + `):\d+`), "$1:N"},                                    // an echo's id as a port
		{regexp.MustCompile(`\b(ICMP \S+ > ` + address + `):\d+`), "$1:N"},                              // and as that of the other end
		{regexp.MustCompile(`\b(icmp \S+ > ` + address + `):\d+ (> ` + address + `):\d+`), "$1:N $2:N"}, // as masquerade has replaced it, and before
		{regexp.MustCompile(`\b\d+ (` + address + `:\d+/(tcp|udp) )`), "N $1"},                          // a Service's number
		{regexp.MustCompile(`(: [A-Z ]+, seq )\d+(, ack )?\d*`), "${1}N$2"},                             // what TCP counts from
		{regexp.MustCompile(`\bKUBE-SVC-[A-Z0-9]+`), "KUBE-SVC"},
		{regexp.MustCompile(`\bdemo-[a-z0-9]{5}\b`), "demo-POD"}, // which one answers is chance
		{regexp.MustCompile(`\b` + address + `([.:]80)\b( here\b)?`), "POD$1"},
	} {
		line = r.pattern.ReplaceAllString(line, r.by)
	}
	line = port.ReplaceAllStringFunc(line, func(found string) string {
		at := strings.LastIndexAny(found, ".:")
		if n, err := strconv.Atoi(found[at+1:]); err != nil || n < 1<<15 {
			return found
		}
		return found[:at] + " PORT"
	})
	return strings.TrimSpace(line)
}

var port = regexp.MustCompile(`\b` + address + `[.:]\d{5}\b`)

func TestTranscripts(t *testing.T) {
	for _, c := range []struct {
		what          string
		page, printed string
		want          bool
	}{
		{"the same", "3", "3", true},
		{"another number", "3", "4", false},
		{"nothing", "", "", true},
		{"something for nothing", "", "3", false},
		{"other addresses", "10.0.0.3 > 10.0.1.7: echo request\n10.0.1.7 > 10.0.0.3: echo reply", "10.0.2.9 > 10.0.0.3: echo request\n10.0.0.3 > 10.0.2.9: echo reply", true},
		{"a reply from elsewhere", "10.0.0.3 > 10.0.1.7: echo request\n10.0.1.7 > 10.0.0.3: echo reply", "10.0.2.9 > 10.0.0.3: echo request\n10.0.0.4 > 10.0.2.9: echo reply", false},
		{"one for two", "10.0.0.3 10.0.1.7", "10.0.0.3 10.0.0.3", false},
		{"another order", "10.0.0.3 > 10.0.1.7: echo request\n10.0.1.7 > 10.0.0.3: echo reply", "10.0.1.7 > 10.0.0.3: echo reply\n10.0.0.3 > 10.0.1.7: echo request", false},
		{"another TTL", "64 bytes from 10.0.1.7: icmp_seq=1 ttl=63 time=0.05 ms", "64 bytes from 10.0.2.9: icmp_seq=1 ttl=62 time=1.5 ms", false},
		{"another time", "64 bytes from 10.0.1.7: icmp_seq=1 ttl=63 time=0.05 ms", "64 bytes from 10.0.2.9: icmp_seq=1 ttl=63 time=1.5 ms", true},
		{"other hundreds of pings", "412 packets transmitted, 412 received, 0% packet loss", "268 packets transmitted, 268 received, 0% packet loss", true},
		{"a ping that is lost", "412 packets transmitted, 412 received, 0% packet loss", "412 packets transmitted, 411 received, 0.242718% packet loss", false},
		{"too few pings to say so", "412 packets transmitted, 412 received, 0% packet loss", "9 packets transmitted, 9 received, 0% packet loss", false},
		{"another MAC, in capitals", "lxc01234567@if2 02:c7:f2:35:46:ba\n02:C7:F2:35:46:BA", "lxc89abcdef@if2 02:c7:f2:35:46:00\n02:c7:f2:35:46:00", true},
		{"another's MAC", "02:c7:f2:35:46:ba\n02:c7:f2:35:46:ba", "02:c7:f2:35:46:00\n02:c7:f2:35:46:01", false},
		{"an echo's small id in the NAT map",
			"worker2  icmp   172.18.0.1:0 > 172.18.0.10:54780    > 10.0.2.3:54250                     answered  25s",
			"control-plane  icmp   172.20.0.1:0 > 172.20.0.4:31074     > 10.0.0.3:8909                      answered  29s", true},
		{"another pod in the NAT map",
			"172.18.0.10 10.0.2.3\nicmp 172.18.0.1:0 > 172.18.0.10:54780 > 10.0.2.3:54250",
			"172.20.0.4 10.0.0.3\nicmp 172.20.0.1:0 > 172.20.0.4:7 > 10.0.0.9:7", false},
		{"an echo's id that is a web server's port", "icmp 172.18.0.1:0 > 172.18.0.10:54780 > 10.0.2.3:54250", "icmp 172.20.0.1:0 > 172.20.0.4:80 > 10.0.0.3:80", true},
		{"an endpoint's number", "10.0.2.13  4  62717  default/cni app=cni", "10.0.0.6  118  62717  default/cni app=cni", true},
		{"another identity of an endpoint", "10.0.2.13  4  62717  default/cni app=cni", "10.0.2.13  4  9596  default/cni app=cni", false},
		{"an echo's small id where it is looked up among answers",
			"worker2 lookup nat: ICMP 10.0.0.3:35208 > 10.0.2.3, no entry\nworker lookup nat: ICMP 10.0.2.3 > 10.0.0.3:35208, no entry",
			"worker lookup nat: ICMP 10.0.1.9:7 > 10.0.0.8, no entry\nworker2 lookup nat: ICMP 10.0.0.8 > 10.0.1.9:7, no entry", true},
		{"an echo's small id in its flow",
			"worker lookup observed: ICMP 10.0.0.3:35208 > 10.0.2.3:35208, no entry, verdict new\nworker created observed: ICMP 10.0.0.3:35208 > 10.0.2.3:35208",
			"worker lookup observed: ICMP 10.0.0.3:7 > 10.0.2.3:7, no entry, verdict new\nworker created observed: ICMP 10.0.0.3:7 > 10.0.2.3:7", true},
		{"an echo that is found", "worker lookup nat: ICMP 10.0.0.3:35208 > 10.0.2.3, no entry", "worker lookup nat: ICMP 10.0.0.3:7 > 10.0.2.3, entry found", false},
		{"another VNI", "worker tunnel to node 172.18.0.7, VNI 62717", "worker tunnel to node 172.18.0.7, VNI 9596", false},
		{"a Service's number", "worker  1   10.96.180.145:8080/tcp  ClusterIP", "worker2  12   10.96.23.37:8080/tcp  ClusterIP", true},
		{"another port of a Service", "worker  1   10.96.180.145:8080/tcp  ClusterIP", "worker2  1   10.96.23.37:53/tcp  ClusterIP", false},
		{"what TCP counts from", "TCP 10.0.0.3:40000 > 10.0.0.4:80: SYN ACK, seq 2890144, ack 17, 0 bytes", "TCP 10.0.2.7:51000 > 10.0.2.8:80: SYN ACK, seq 7, ack 3990144, 0 bytes", true},
		{"another flag of TCP", "TCP 10.0.0.3:40000 > 10.0.0.4:80: SYN, seq 2890144, 0 bytes", "TCP 10.0.2.7:51000 > 10.0.2.8:80: RST, seq 2890144, 0 bytes", false},
		{"another echo in a capture", "ICMPv4 10.0.0.3 > 10.0.0.4, TTL 64, 84 bytes: echo request, id 7, seq 1", "ICMPv4 10.0.2.7 > 10.0.2.8, TTL 64, 84 bytes: echo request, id 8, seq 2", false},
		{"ports", "172.18.0.2.40001 > 172.18.0.3.8472:", "172.20.0.2.50001 > 172.20.0.4.8472:", true},
		{"another port", "172.18.0.2.40001 > 172.18.0.3.8472:", "172.20.0.2.50001 > 172.20.0.4.6081:", false},
		{"the native CIDR", "10.0.0.0/8", "10.0.0.0/12", false},
		{"a network of another size", "172.18.0.0/16 proto kernel", "192.168.0.0/20 proto kernel", true},
		{"podCIDRs", "10.0.0.0/24\n10.0.0.0/8", "10.0.2.0/24\n10.0.0.0/8", true},
		{"another pod that answers", "pod demo-dmbjs\nclient 10.0.0.1:50001", "pod demo-wqrd5\nclient 10.0.0.1:40001", true},
		{"another backend", "10.0.0.3:80\n10.0.1.3:80 here\n10.0.0.3.40001 > 10.0.0.3.80:", "10.0.2.3:80 here\n10.0.1.3:80\n10.0.0.1.40001 > 10.0.1.3.80:", true},
		{"not a backend", "10.0.0.3.40001 > 10.0.0.3.80:", "10.0.0.1.40001 > 10.96.0.17.8080:", false},
		{"a node for another", "worker 10.0.0.1\ncontrol-plane 10.0.1.1", "worker2 10.0.1.1\nworker 10.0.0.1", true},
		{"rows of a table", "NODE ADDRESS\nworker 10.0.0.1\ncontrol-plane 10.0.1.1", "NODE ADDRESS\ncontrol-plane 10.0.0.1\nworker 10.0.1.1", true},
		{"rows in another order", "NODE ADDRESS\nworker 1\ncontrol-plane 2", "NODE ADDRESS\ncontrol-plane 2\nworker 1", true},
		{"a row too many", "NODE ADDRESS\nworker 1", "NODE ADDRESS\ncontrol-plane 1\nworker 1", false},
		{"some rows of many", "NODE ADDRESS\nworker 1\n…", "NODE ADDRESS\ncontrol-plane 2\nworker 1", true},
		{"a row too few", "NODE ADDRESS\nworker 1\nworker2 1", "NODE ADDRESS\nworker 1", false},
		{"routes in another order", "to 10.0.2.0/24\n10.0.0.0/24 via 10.0.1.1 mtu 1450\n10.0.2.0/24 via 10.0.1.1 mtu 1450\nend", "to 10.0.1.0/24\n10.0.1.0/24 via 10.0.0.1 mtu 1450\n10.0.2.0/24 via 10.0.0.1 mtu 1450\nend", true},
		{"a route by somebody else", "to 10.0.2.0/24\n10.0.0.0/24 via 10.0.1.1 mtu 1450\n10.0.2.0/24 via 10.0.1.1 mtu 1450", "to 10.0.1.0/24\n10.0.1.0/24 via 10.0.0.1 mtu 1450\n10.0.2.0/24 via 10.0.0.9 mtu 1450", false},
		{"a route too few", "10.0.0.0/24 via 10.0.1.1\n10.0.2.0/24 via 10.0.1.1", "10.0.1.0/24 via 10.0.0.1", false},
		{"a route too many", "10.0.0.0/24 via 10.0.1.1\n10.0.2.0/24 via 10.0.1.1", "10.0.1.0/24 via 10.0.0.1\n10.0.2.0/24 via 10.0.0.1\n10.0.3.0/24 via 10.0.0.1", false},
		{"lines left out", "a\n…\nd", "a\nb\nc\nd", true},
		{"lines left out, and then none", "a\n…\nd", "a\nb\nc", false},
	} {
		if got := (ways{{}}).fits(lines(c.page), lines(c.printed)) != nil; got != c.want {
			t.Errorf("%s: fits: %v, want %v", c.what, got, c.want)
		}
	}
}

// TestRowsAreKnownLater: which of a table's rows is which, may only be seen further down on the page.
func TestRowsAreKnownLater(t *testing.T) {
	page := []string{"NODE CIDR TO\nworker 10.0.0.0/24 172.18.0.2\nworker 10.0.1.0/24 172.18.0.3", "to 10.0.0.0/24"}
	table := "NODE CIDR TO\nworker 10.0.4.0/24 172.20.0.2\nworker 10.0.5.0/24 172.20.0.3"
	for _, c := range []struct {
		then []string
		want bool
	}{
		{[]string{"to 10.0.4.0/24"}, true},
		{[]string{"to 10.0.5.0/24"}, true},
		{[]string{"to 10.0.6.0/24"}, false},
		{[]string{"to 10.0.5.0/24", "by 172.20.0.3"}, true},
		{[]string{"to 10.0.5.0/24", "by 172.20.0.2"}, false},
	} {
		known := (ways{{}}).fits(lines(page[0]), lines(table)).fits(lines(page[1]), lines(c.then[0]))
		if len(c.then) > 1 {
			known = known.fits(lines("by 172.18.0.2"), lines(c.then[1]))
		}
		if got := known != nil; got != c.want {
			t.Errorf("then %v: fits: %v, want %v", c.then, got, c.want)
		}
	}
}
