package field

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wirelab.dev/wirelab/verify/probe"
)

// replySlack is how much later than its own timeout a probe's reply may come:
// the time a busy machine takes to carry a line through the API server.
const replySlack = 5 * time.Second

// closeGrace is how long nettool may take to end when its input has.
const closeGrace = 2 * time.Second

// shell runs `nettool probe batch` somewhere with the given stdio and returns
// when it has ended.
type shell func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error

// session is a [Prober] at the other end of one long-lived command. An exec
// costs about 100 ms, a probe through an open one a millisecond, so all checks
// share it. A session that broke is opened again by the next probe.
type session struct {
	name  string
	shell shell
	life  context.Context // ends with the run, not with a check

	mu   sync.Mutex
	link *link // nil: never opened
}

func newSession(life context.Context, name string, shell shell) *session {
	return &session{name: name, shell: shell, life: life}
}

// Probe implements [Prober].
func (s *session) Probe(ctx context.Context, request probe.Request) (reply probe.Reply, err error) {
	timeout := time.Duration(request.Timeout)
	if timeout == 0 {
		timeout = probe.DefaultTimeout
	}
	err = s.ask(ctx, request, func(r *running) (err error) {
		defer r.forget()
		ctx, cancel := context.WithTimeoutCause(ctx, timeout+replySlack, errors.New("nettool does not reply"))
		defer cancel()
		reply, err = r.final(ctx)
		return err
	})
	return reply, err
}

// Start implements [Prober].
func (s *session) Start(ctx context.Context, request probe.Request) (Running, error) {
	var begun *running
	err := s.ask(ctx, request, func(r *running) (err error) {
		if r.first, err = r.next(ctx); err == nil && !r.first.Ready {
			err = fmt.Errorf("%s: the probe ended before it began: %s", s.name, r.first.Failure)
		}
		if err != nil {
			r.forget()
		}
		begun = r
		return err
	})
	if err != nil {
		return nil, err
	}
	return begun, nil
}

// ask sends a request and hears the answer. It does so a second time where the command ended before it had answered
// anything at all: a container runtime that could not start it is at fault, which passes.
func (s *session) ask(ctx context.Context, request probe.Request, hear func(*running) error) error {
	r, err := s.send(ctx, request)
	if err == nil {
		err = hear(r)
	}
	if err == nil || r == nil || !r.link.broken() || r.link.heard.Load() || ctx.Err() != nil {
		return err
	}
	if r, err = s.send(ctx, request); err != nil {
		return err
	}
	return hear(r)
}

// Close ends the command and waits for it.
func (s *session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		s.link.close()
	}
}

// send hands a request to the command. With an error it is told which run of the command that was, if there was one.
func (s *session) send(ctx context.Context, request probe.Request) (*running, error) {
	if err := request.Check(); err != nil {
		return nil, fmt.Errorf("%s: the probe could not be sent: %w", s.name, err)
	}
	l, err := s.open()
	if err != nil {
		return nil, err
	}
	r := l.register()
	request.ID = r.id
	if err := l.write(ctx, request); err != nil {
		r.forget()
		return r, err
	}
	return r, nil
}

func (s *session) open() (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.life.Err(); err != nil {
		return nil, fmt.Errorf("%s: the run is over: %w", s.name, err)
	}
	if s.link == nil || s.link.broken() {
		s.link = dial(s.life, s.name, s.shell)
	}
	return s.link, nil
}

// link is one run of the command.
type link struct {
	name  string
	stdin *io.PipeWriter
	lines chan probe.Request // to the writer, so that a stuck pipe blocks nobody for longer than its ctx
	ended chan struct{}      // closed when the command has ended; err is set then
	err   error
	stop  context.CancelCauseFunc
	all   sync.WaitGroup // its three goroutines
	heard atomic.Bool    // it has answered something

	mu      sync.Mutex
	nextID  int
	waiting map[string]*running
}

func dial(life context.Context, name string, shell shell) *link {
	ctx, stop := context.WithCancelCause(life)
	stdinReader, stdinWriter := io.Pipe()
	stdoutReader, stdoutWriter := io.Pipe()
	l := &link{name: name, stdin: stdinWriter, lines: make(chan probe.Request), ended: make(chan struct{}), stop: stop, waiting: map[string]*running{}}
	read := make(chan struct{})
	l.all.Go(func() {
		defer close(read)
		l.readAll(stdoutReader)
	})
	l.all.Go(func() {
		var words tail
		err := shell(ctx, stdinReader, stdoutWriter, &words)
		_ = stdoutWriter.Close()
		<-read // its last line may be the reason why it ended
		switch {
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case err == nil:
			err = errors.New("nettool ended")
		}
		if text := words.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		l.err = fmt.Errorf("%s: %w", name, err)
		stop(nil)
		_ = stdinReader.CloseWithError(io.ErrClosedPipe)
		close(l.ended)
	})
	l.all.Go(func() { l.writeAll(ctx) })
	return l
}

func (l *link) writeAll(ctx context.Context) {
	encoder := json.NewEncoder(l.stdin)
	for {
		select {
		case request := <-l.lines:
			if err := encoder.Encode(request); err != nil {
				return // the command has ended, and ended tells the others
			}
		case <-ctx.Done():
			return
		}
	}
}

func (l *link) readAll(stdout *io.PipeReader) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var reply probe.Reply
			if err := json.Unmarshal(line, &reply); err != nil {
				// An engine that cannot run nettool says so where its output would be.
				l.stop(fmt.Errorf("nettool did not reply: %.300s", bytes.TrimSpace(line)))
				_ = stdout.CloseWithError(io.ErrClosedPipe)
				return
			}
			l.deliver(reply)
		}
		if err != nil {
			return // the command has ended, and ended tells the others
		}
	}
}

func (l *link) deliver(reply probe.Reply) {
	l.heard.Store(true)
	l.mu.Lock()
	waiting := l.waiting[reply.ID]
	l.mu.Unlock()
	if waiting != nil {
		waiting.replies <- reply // never blocks: there are at most two
	}
}

func (l *link) write(ctx context.Context, request probe.Request) error {
	select {
	case l.lines <- request:
		return nil
	case <-l.ended:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("%s: ask nettool: %w", l.name, context.Cause(ctx))
	}
}

func (l *link) broken() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// close ends input, upon which nettool ends by itself; what does not is cut off.
func (l *link) close() {
	_ = l.stdin.Close()
	select {
	case <-l.ended:
	case <-time.After(closeGrace):
		l.stop(nil)
		// One that hears of nothing, as on a node that was paused meanwhile, is left to itself.
		select {
		case <-l.ended:
		case <-time.After(closeGrace):
			return
		}
	}
	l.all.Wait()
}

func (l *link) register() *running {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	r := &running{link: l, id: strconv.Itoa(l.nextID), replies: make(chan probe.Reply, 2)}
	l.waiting[r.id] = r
	return r
}

// tail keeps the last words of a command.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 500

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-tailBytes):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}
