package protocol

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAFrameReadsBackAsItWasWritten(t *testing.T) {
	data, err := AppendFrame(nil, 7, Fork{Type: "Fork", ForkID: "a1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadFrame(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(f.Body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Fork{Type: "Fork", ForkID: "a1"}, m); diff != "" || f.ID != 7 {
		t.Errorf("id %d, (-want +got):\n%s", f.ID, diff)
	}
}

func TestALargeFrameReadsBack(t *testing.T) {
	want := strings.Repeat("x", 3<<20)
	data, err := AppendFrame(nil, 0, AddNotice{Type: "AddNotice", Text: want}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadFrame(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	m, err := DecodeAs[AddNotice](f.Body, "AddNotice")
	if err != nil || m.Text != want {
		t.Errorf("got %d bytes, %v", len(m.Text), err)
	}
}

func TestAFrameAboveTheLimitIsRefusedOnBothSides(t *testing.T) {
	_, err := AppendFrame(nil, 1, AddNotice{Text: strings.Repeat("x", MaxFrame)}, nil)
	if !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("writing: %v", err)
	}
	head := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if _, err := ReadFrame(bytes.NewReader(head)); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("reading: %v", err)
	}
}

func TestAStreamThatEndsInsideAFrameIsAnUnexpectedEnd(t *testing.T) {
	data, _ := AppendFrame(nil, 1, OKResponse{Type: "OKResponse", OK: true}, nil)
	for n := 0; n < len(data); n++ {
		_, err := ReadFrame(bytes.NewReader(data[:n]))
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

// fileReader reads a Unix socket and keeps the descriptors that come along.
type fileReader struct {
	c   *net.UnixConn
	got []*os.File
}

func (r *fileReader) Read(p []byte) (int, error) {
	oob := make([]byte, syscall.CmsgSpace(8*4))
	n, oobn, _, _, err := r.c.ReadMsgUnix(p, oob)
	if oobn > 0 {
		messages, perr := syscall.ParseSocketControlMessage(oob[:oobn])
		if perr != nil {
			return n, fmt.Errorf("parse control message: %w", perr)
		}
		for _, m := range messages {
			fds, perr := syscall.ParseUnixRights(&m)
			if perr != nil {
				continue
			}
			for _, fd := range fds {
				syscall.CloseOnExec(fd)
				r.got = append(r.got, os.NewFile(uintptr(fd), "received"))
			}
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// take takes the n oldest descriptors received. They arrive no later than the frame they were sent with, in order.
func (r *fileReader) take(n int) ([]*os.File, error) {
	if len(r.got) < n {
		return nil, fmt.Errorf("take %d descriptors: not received", n)
	}
	fs := r.got[:n:n]
	r.got = r.got[n:]
	return fs, nil
}

func TestDescriptorsArriveWithTheirFrame(t *testing.T) {
	ours, theirs, err := SocketPair()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := net.FileConn(theirs)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	files := &fileReader{c: peer.(*net.UnixConn)}
	sender, receiver := NewConn(ours), &Conn{stream: files.c, r: bufio.NewReader(files)}
	defer sender.Close()
	defer receiver.Close()

	for _, text := range []string{"first", "second"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := sender.WriteFiles(1, Fork{Type: "Fork", ForkID: text}, nil, w); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if _, err := receiver.Read(); err != nil {
			t.Fatal(err)
		}
		fs, err := files.take(1)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(fs[0], text)
		fs[0].Close()
		got, _ := io.ReadAll(r)
		r.Close()
		if string(got) != text {
			t.Errorf("through the passed pipe: %q, want %q", got, text)
		}
	}
	if _, err := files.take(1); err == nil {
		t.Error("a descriptor that was never sent was handed out")
	}
}

func TestEveryNamedMessageDecodesIntoItsType(t *testing.T) {
	for _, name := range []string{"Hello", "Exited", "Welcome", "Describe", "Described", "Fork", "Forked", "Shutdown",
		"StartupDetails", "SetRenderedFields", "SetRenderedMapIndex", "MaskSecret", "AddNotice", "SkipDownstreamTasks",
		"LogRecord", "SucceedTask", "TaskState", "RetryTask", "RescheduleTask", "DeferTask", "CallbacksDone", "Exiting", "GetXCom"} {
		if _, err := Decode([]byte(`{"type":"` + name + `"}`)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Decode([]byte(`{"type":"Nonsense"}`)); err == nil {
		t.Error("an unknown type was accepted")
	}
	if !IsRequest("GetXCom") || IsRequest("SucceedTask") {
		t.Error("requests are told apart wrongly")
	}
}

func FuzzReadFrame(f *testing.F) {
	data, _ := AppendFrame(nil, 3, OKResponse{Type: "OKResponse", OK: true}, nil)
	f.Add(data)
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := ReadFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := AppendFrame(nil, frame.ID, frame.Body, frame.Error)
		if err != nil {
			return // a body that is no JSON value cannot have been decoded, other limits may apply
		}
		if _, err := ReadFrame(bytes.NewReader(again)); err != nil {
			t.Errorf("what was written does not read back: %v", err)
		}
	})
}
