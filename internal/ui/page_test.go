package ui

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is headless Chromium with one page open, which says nothing on its console and asks nobody but its server.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	trouble []string
	asked   []string
}

// browse opens the page of s, or skips the test where there is no Chromium. WIRELAB_TEST_STRICT does not allow that.
func browse(t *testing.T, s *Server) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("WIRELAB_TEST_STRICT") != "" {
			t.Fatal("there is no chromium on this machine: run make deps")
		}
		t.Skip("needs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1440, 900))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			b.trouble = append(b.trouble, fmt.Sprintf("%s: %+v", e.Type, e.Args))
		case *runtime.EventExceptionThrown:
			b.trouble = append(b.trouble, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
		case *log.EventEntryAdded:
			b.trouble = append(b.trouble, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		case *network.EventRequestWillBeSent:
			b.asked = append(b.asked, e.Request.URL)
		}
	}))
	t.Cleanup(cancel)
	if err := chromedp.Do(b.ctx); err != nil { // which starts it, and takes its time
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, what := range b.trouble {
			t.Errorf("the console says %s", what)
		}
		for _, url := range b.asked {
			if !strings.HasPrefix(url, s.URL()) && !strings.HasPrefix(url, "data:") {
				t.Errorf("the page asks %s", url)
			}
		}
		if len(b.asked) == 0 {
			t.Error("the page has asked nobody, so this is blind")
		}
	})
	call(b, network.Enable, network.EnableParams{})
	b.run(chromedp.Navigate(s.URL()), chromedp.WaitVisible(`#state[data-state="live"]`))
	return b
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// call runs a command of the DevTools protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// ask evaluates JavaScript.
func ask[T any](b *browser, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	answer, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return answer
}

// soon is how long the page may take for what a person would not wait for, on a machine that has other tests to run.
const soon = 20 * time.Second

// within waits until a script says true.
func (b *browser) within(limit time.Duration, what, script string) {
	b.t.Helper()
	for late := time.Now().Add(limit); !ask[bool](b, script); {
		if time.Now().After(late) {
			b.t.Fatalf("%s: not within %s; the map has %s", what, limit, ask[string](b, `document.getElementById('edges').innerText`))
		}
	}
}

// cy is the graph that the map draws.
const cy = `document.getElementById('map')._cyreg.cy`

// picture keeps what the page looks like, in the folder that WIRELAB_TEST_PICTURES names.
func (b *browser) picture(name string) {
	folder := os.Getenv("WIRELAB_TEST_PICTURES")
	if folder == "" {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		time.Sleep(time.Second) // for a person to look at
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name+"-"+scheme+".png"), png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestPage looks at the page as a person does: a ping appears as an arrow, a drop turns it red, a filter leaves the rest out,
// and a click says what is behind it.
func TestPage(t *testing.T) {
	s, f := serving(t, "l-control-plane", "l-worker")
	b := browse(t, s)
	ping := passes("icmp", podEnd("default/cni", 0), podEnd("default/demo-x7x2k", 0))
	f.tell(ping, answer(ping))
	b.within(2*time.Second, "a ping is an arrow", cy+`.edges('[protocol = "icmp"]').length === 1`)
	if got := ask[string](b, cy+`.edges()[0].source().data('label') + ' > ' + `+cy+`.edges()[0].target().data('label')`); got != "cni\ndefault · 1 pod > demo\ndefault · 1 pod" {
		t.Errorf("it goes from %q", got)
	}
	colour := cy + `.edges('[protocol = "icmp"]')[0].style('line-color')`
	fine := ask[string](b, colour)
	red := ask[string](b, `(() => { const e = document.createElement('p'); e.style.color = 'var(--red)'; document.body.append(e);
		const c = getComputedStyle(e).color; e.remove(); return c.replaceAll(' ', ''); })()`)
	if fine == red {
		t.Fatalf("it is red (%s) before there is a drop", red)
	}
	f.tell(dropped(passes("icmp", podEnd("default/cni", 0), podEnd("default/demo-x7x2k", 0)), "policy-denied"))
	b.within(soon, "a drop turns it red", fmt.Sprintf(`%s.replaceAll(' ', '') === %q && document.querySelectorAll('tr.dropped').length === 1`, colour, red))

	f.tell(passes("tcp", podEnd("shop/web-7db6d8ff4d-x2x4k", 40000), podEnd("shop/db-0", 5432)))
	b.within(soon, "three flows are three lines", `document.querySelectorAll('#rows tr').length === 3`)
	// One event, as of a keyboard: chromedp would type the slash that the page has taken as a command.
	call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Text: "/"})
	b.run(chromedp.KeyEvent("ns:shop 5432"))
	b.within(soon, "the filter leaves the others out",
		`document.activeElement.id === 'filter' && document.querySelectorAll('#rows tr').length === 1 && `+cy+`.edges('.out').length === 1 && `+cy+`.edges(':visible').not('.out').data('protocol') === 'tcp'`)
	b.run(chromedp.KeyEvent(kb.Escape))
	b.within(soon, "Escape ends the filter", `document.querySelectorAll('#rows tr').length === 3 && `+cy+`.edges('.out').length === 0`)
	b.run(chromedp.Click(`#verdict input[value="dropped"] + span`))
	b.within(soon, "only what was dropped", `document.querySelectorAll('#rows tr').length === 1 && document.querySelector('#rows tr').innerText.includes('policy-denied')`)
	b.run(chromedp.Click(`#rows tr`))
	b.within(soon, "a click says more", `document.getElementById('details').innerText.replace(/\\\s+/g, '').includes('lab explain default/cni default/demo-x7x2k --proto icmp --name l')`)
	b.run(chromedp.Click(`#explain`))
	b.within(soon, "its way is drawn", `document.getElementById('passport').open && document.getElementById('passport-picture').naturalWidth === 100 &&
		document.getElementById('passport-picture').alt === 'the way of default/cni → default/demo-x7x2k, icmp'`)
	b.run(chromedp.KeyEvent(kb.Escape))
	b.within(soon, "Escape closes the drawing alone", `!document.getElementById('passport').open && !document.getElementById('details').hidden`)
	b.run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent(kb.Escape))
	b.within(soon, "nothing is chosen or left out", `document.getElementById('details').hidden && document.querySelectorAll('#rows tr').length === 3`)
	b.run(chromedp.Focus(`#map`), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.Enter))
	b.within(soon, "keys open a card", `!document.getElementById('details').hidden && document.querySelector('#details h2').innerText.includes('/')`)

	b.run(chromedp.KeyEvent("d"))
	b.within(soon, "the datapath is drawn", `[...document.querySelectorAll('.plan .box.passed b')].map((e) => e.textContent).join() === '2 pods, each with a veth lxc…,eth0' &&
		[...document.querySelectorAll('.plan .chip')].length === 6 && document.querySelector('.plan > .wrong').textContent === 'no agent pod on this node'`)
	b.run(chromedp.KeyEvent(kb.Escape))
	b.within(soon, "Escape closes it", `!document.getElementById('datapath').open`)

	f.heard("l-worker", fmt.Errorf("no agent pod on this node"))
	b.within(soon, "a node is away", `document.querySelector('#nodes [data-state="away"]')?.innerText === 'worker is away'`)
}

// TestPageOfMany draws a lab of 500 pods with 500 flows a second, and goes on drawing.
func TestPageOfMany(t *testing.T) {
	s, f := serving(t, "l-control-plane", "l-worker", "l-worker2")
	lab := newShop(500)
	stop := make(chan struct{})
	var telling sync.WaitGroup
	defer telling.Wait()
	defer close(stop)
	telling.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-tick.C:
				for range 10 {
					n++
					f.tell(lab.flow(n))
				}
			case <-stop:
				return
			}
		}
	})
	b := browse(t, s)
	b.within(20*time.Second, "all pods are there", cy+`.nodes().reduce((sum, node) => sum + node.data('group').pods.length, 0) >= 500`)
	b.within(20*time.Second, "it says how many flows", `Number(document.getElementById('rate').innerText) > 250`)
	ask[int](b, `window.drawn = 0, requestAnimationFrame(function next() { window.drawn++; requestAnimationFrame(next); }), 0`)
	began := time.Now()
	time.Sleep(3 * time.Second)
	frames := ask[float64](b, `window.drawn`) / time.Since(began).Seconds()
	t.Logf("%.0f frames a second", frames)
	if frames < 2 {
		t.Errorf("%.1f frames a second", frames)
	}
	b.picture("many")
}
