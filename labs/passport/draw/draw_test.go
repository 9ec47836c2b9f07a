package draw

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/labs/passport"
)

// recorded are passports of what `lab explain -v -o json` has seen in labs of each mode, and one of them without an agent.
func recorded(t *testing.T) map[string]passport.Passport {
	t.Helper()
	files, err := filepath.Glob("../testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	out := map[string]passport.Passport{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		var in passport.Input
		if err == nil {
			err = json.Unmarshal(b, &in)
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		out[name] = passport.Make(in)
		if name == "ebpf-across" {
			out["away"] = away(in)
		}
	}
	for _, name := range []string{"ebpf-same", "ebpf-across", "kubeproxy-across", "vxlan-across", "ebpf-service", "ebpf-nobody"} {
		if _, ok := out[name]; !ok {
			t.Fatalf("there is no recording %s", name)
		}
	}
	return out
}

// away is a passport where one node's agent told nothing.
func away(in passport.Input) passport.Passport {
	request := passport.Make(in).Request.Hops
	far := request[len(request)-1].Node
	for i := range in.Nodes {
		if in.Nodes[i].Name == far {
			in.Nodes[i].Away = "its agent does not answer"
		}
	}
	in.Events = slices.DeleteFunc(slices.Clone(in.Events), func(e api.Event) bool { return e.Node == far })
	return passport.Make(in)
}

// drawn is what an SVG says, as a reader of XML has it.
type drawn struct {
	w, h   int
	texts  []placed
	rects  []rect
	places []string
	steps  map[string]int // circles on the way, by number
	legend map[string]int // and in the legend
	rows   map[string]string
	role   string
	title  string
	desc   string
}

type rect struct{ x, y, w, h int }

type placed struct {
	rect
	s string
}

func read(t *testing.T, svg []byte) (out drawn) {
	t.Helper()
	out.steps, out.legend, out.rows = map[string]int{}, map[string]int{}, map[string]string{}
	d := xml.NewDecoder(bytes.NewReader(svg))
	var in []xml.StartElement
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			token = token.Copy()
			in = append(in, token)
			out.element(t, token)
		case xml.EndElement:
			in = in[:len(in)-1]
		case xml.CharData:
			if len(in) == 0 {
				continue
			}
			switch e := in[len(in)-1]; e.Name.Local {
			case "title":
				out.title += string(token)
			case "desc":
				out.desc += string(token)
			case "text":
				out.text(t, e, string(token))
			}
		}
	}
}

func (out *drawn) element(t *testing.T, e xml.StartElement) {
	t.Helper()
	switch e.Name.Local {
	case "svg":
		if _, err := fmt.Sscanf(attr(e, "viewBox"), "0 0 %d %d", &out.w, &out.h); err != nil {
			t.Fatal(err)
		}
		out.role = attr(e, "role")
	case "rect":
		if attr(e, "x") != "" {
			out.rects = append(out.rects, rect{number(t, e, "x"), number(t, e, "y"), number(t, e, "width"), number(t, e, "height")})
		}
		if p := attr(e, "data-place"); p != "" {
			out.places = append(out.places, p)
		}
	case "circle":
		r := number(t, e, "r")
		out.rects = append(out.rects, rect{number(t, e, "cx") - r, number(t, e, "cy") - r, 2 * r, 2 * r})
		if n := attr(e, "data-step"); n != "" {
			out.steps[n]++
		}
		if n := attr(e, "data-legend"); n != "" {
			out.legend[n]++
		}
	}
}

func (out *drawn) text(t *testing.T, e xml.StartElement, s string) {
	t.Helper()
	size := number(t, e, "font-size")
	r := rect{number(t, e, "x"), number(t, e, "y") - size*8/10, textWidth(s, size), size}
	if attr(e, "text-anchor") == "middle" {
		r.x -= r.w / 2
	}
	out.texts = append(out.texts, placed{r, s})
	if n := attr(e, "data-row"); n != "" {
		out.rows[n] += s + " "
	}
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func number(t *testing.T, e xml.StartElement, name string) int {
	t.Helper()
	n, err := strconv.Atoi(attr(e, name))
	if err != nil {
		t.Fatalf("%s of %s: %v", name, e.Name.Local, err)
	}
	return n
}

func (a rect) over(b rect) bool {
	return a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h
}

// places are those that a passport names, and how many steps it has.
func places(p passport.Passport) (out []string, steps int) {
	all := map[string]bool{}
	for _, w := range ways(p) {
		for _, h := range w.Hops {
			steps++
			switch {
			case h.Socket != nil:
				all[h.Node+" "+h.Pod+":socket"] = true
			default:
				all[h.Node+" "+h.Place()] = true
			}
		}
		for _, a := range w.Absences {
			if a.Hooks != nil {
				all[a.Node+" stack"] = true
			} else {
				all[a.Node+" "+a.Device] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all)), steps
}

// TestDrawn holds pictures of recorded passports against them: all that they name is there, once, and can be read.
func TestDrawn(t *testing.T) {
	for name, p := range recorded(t) {
		for kind, svg := range map[string][]byte{"whole": Passport(p), "small": Small(p)} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				d := read(t, svg)
				if d.role != "img" || d.title == "" || d.desc == "" {
					t.Errorf("role %q, title %q, desc %q", d.role, d.title, d.desc)
				}
				want, steps := places(p)
				got := slices.DeleteFunc(slices.Sorted(slices.Values(d.places)), func(s string) bool { return strings.HasPrefix(s, p.Probe.To.Name+" ") })
				if !slices.Equal(got, want) {
					t.Errorf("places %q, want %q", got, want)
				}
				once := map[string]int{}
				for i := range steps {
					once[strconv.Itoa(i+1)] = 1
				}
				if !maps.Equal(d.steps, once) {
					t.Errorf("steps %v, want %d", d.steps, steps)
				}
				if kind == "whole" && (!maps.Equal(d.legend, once) || len(d.rows) != steps) {
					t.Errorf("the legend has %v and %d rows, want %d", d.legend, len(d.rows), steps)
				}
				legible(t, d)
			})
		}
	}
}

// legible holds that no text is over another, and nothing outside the picture.
func legible(t *testing.T, d drawn) {
	t.Helper()
	for i, a := range d.texts {
		if a.x < 0 || a.y < 0 || a.x+a.w > d.w || a.y+a.h > d.h {
			t.Errorf("%q is outside of %d x %d: %+v", a.s, d.w, d.h, a.rect)
		}
		for _, b := range d.texts[:i] {
			if a.over(b.rect) {
				t.Errorf("%q is over %q: %+v, %+v", a.s, b.s, a.rect, b.rect)
			}
		}
	}
	for _, r := range d.rects {
		if r.x < 0 || r.y < 0 || r.x+r.w > d.w || r.y+r.h > d.h {
			t.Errorf("a shape is outside: %+v", r)
		}
	}
}

// TestLinesCrossNoText holds that no line of a way goes through what one is to read.
func TestLinesCrossNoText(t *testing.T) {
	lines := 0
	for name, p := range recorded(t) {
		for _, width := range []int{wide, small} {
			d := layOut(p, width)
			for _, l := range d.lines {
				for i := 1; i < len(l.at); i++ {
					lines++
					a, b := l.at[i-1], l.at[i]
					if a.x != b.x && a.y != b.y {
						t.Errorf("%s: %v to %v is slanting", name, a, b)
					}
					piece := rect{min(a.x, b.x) - 1, min(a.y, b.y) - 1, max(a.x, b.x) - min(a.x, b.x) + 2, max(a.y, b.y) - min(a.y, b.y) + 2}
					for _, x := range d.texts {
						if piece.over(rect{x.x, x.y - x.size*8/10, textWidth(x.s, x.size), x.size}) {
							t.Errorf("%s, %d wide: a line from %v to %v goes through %q", name, width, a, b, x.s)
						}
					}
				}
			}
		}
	}
	if lines < 100 {
		t.Errorf("%d pieces of lines: this says nothing", lines)
	}
}

// TestSame: a passport has one picture.
func TestSame(t *testing.T) {
	for name, p := range recorded(t) {
		if !bytes.Equal(Passport(p), Passport(p)) {
			t.Errorf("%s: two pictures", name)
		}
	}
}

// TestOfItself: a picture asks for nothing that is not in it.
func TestOfItself(t *testing.T) {
	for name, p := range recorded(t) {
		svg := strings.ReplaceAll(string(Passport(p)), `xmlns="http://www.w3.org/2000/svg"`, "")
		svg = strings.ReplaceAll(svg, "url(#passport-", "")
		for _, outside := range []string{"http", "url(", "href", "@import", "<script", "<image"} {
			if strings.Contains(svg, outside) {
				t.Errorf("%s: there is %s in it", name, outside)
			}
		}
	}
}

// TestSays holds that the picture tells what the passport tells.
func TestSays(t *testing.T) {
	all := recorded(t)
	for _, c := range []struct {
		of   string
		says []string
	}{
		{"ebpf-nobody", []string{"DROP no-endpoint", "lab_to_pod at tcx egress of lab_host (node worker) dropped it", "way out: lab endpoint list", `class="cross"`, `class="drop-stop"`}},
		{"ebpf-service", []string{"lab_connect4", "Service default/demo", "10.96.68.108:8080 -&gt; 10.0.0.9:80"}},
		{"ebpf-across", []string{"bpf_redirect_neigh", "bpf_redirect_peer", "TTL 64 -&gt; 63", "identity 62717 -&gt; 9596", "Not seen"}},
		{"vxlan-across", []string{"lab_from_tunnel", "VNI 62717", `class="tunnel"`}},
		{"ebpf-outside", []string{"outside the lab", "172.18.0.1"}},
		{"away", []string{"unknown what happened here", "unknown: its agent does not answer"}},
	} {
		svg := string(Passport(all[c.of]))
		for _, want := range c.says {
			if !strings.Contains(svg, want) {
				t.Errorf("%s does not say %s", c.of, want)
			}
		}
	}
	if arrived := string(Passport(all["ebpf-across"])); strings.Contains(arrived, `class="cross"`) {
		t.Error("a packet that arrived has the mark of one that did not")
	}
}

// TestOdd draws what is not in the recordings: nothing, and names that are XML.
func TestOdd(t *testing.T) {
	nowhere := passport.Passport{Probe: passport.Probe{Protocol: passport.TCP}, Failed: "refused", Request: &passport.Way{Kind: "nothing", End: "it was seen nowhere"}}
	legible(t, read(t, Passport(nowhere)))
	p := recorded(t)["ebpf-across"]
	for i := range p.Request.Hops {
		p.Request.Hops[i].Node = `<a href="x">&` + p.Request.Hops[i].Node
	}
	p.Probe.To.Name = "<script>alert(1)</script>"
	d := read(t, Passport(p))
	legible(t, d)
	if !strings.Contains(d.title, p.Probe.To.Name) {
		t.Errorf("title %q", d.title)
	}
	lost := recorded(t)["ebpf-across"]
	lost.Answer = nil
	lost.Request.Hops, lost.Request.Arrived, lost.Request.End = lost.Request.Hops[:3], false, "it was last seen at eth0"
	if svg := Passport(lost); !strings.Contains(string(svg), "not seen again") {
		t.Error("a packet that was lost between nodes is not marked there")
	} else {
		legible(t, read(t, svg))
	}
}
