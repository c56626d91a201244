package daghost

import (
	"os"
	"path/filepath"
	"testing"
)

// pretender is a shell script that has a process below it whose command line is a tracker's.
const pretender = `sh -c 'touch up; while :; do sleep 100; done' "from multiprocessing.resource_tracker import main;" & sleep 100; true`

func TestAProcessThatLooksLikeATrackerIsKilledWithItsTreeInTheEnd(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, end := range map[string]func(pid int){
		"with its tree": func(pid int) { KillTree(pid) },
		"by its mark": func(int) {
			if _, err := KillMarked("/home/of/pretenders", "now", nil); err != nil {
				t.Error(err)
			}
		},
	} {
		_ = os.Remove("up")
		cmd := startShell(t, pretender, EnvHome+"=/home/of/pretenders", EnvInstance+"=former")
		eventually(t, "it is up", func() bool { m, _ := filepath.Glob("up"); return len(m) == 1 })
		var below []ProcessID
		trackers := 0
		for _, pid := range descendants(cmd.Process.Pid) {
			if isTracker(pid) {
				trackers++
			}
			if id, err := Identify(pid); err == nil {
				below = append(below, id)
			}
		}
		if trackers != 1 {
			t.Errorf("%s: %d processes look like a tracker", name, trackers)
		}
		end(cmd.Process.Pid)
		for _, p := range below {
			if p.Alive() {
				t.Errorf("%s: process %d is still there", name, p.PID)
			}
		}
	}
}
