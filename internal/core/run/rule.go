package run

import (
	"fmt"
	"strings"

	"ostro.dev/ostro/internal/core/dag"
)

// Upstream counts the instances a task instance directly waits for, by how they ended.
type Upstream struct {
	Total int32 // all of them, finished or not

	Success, Failed, UpstreamFailed, Skipped, Removed int32

	// The setup tasks among them.
	Setups, SetupSuccess, SetupSkipped int32
}

// Count adds n (1 or -1) instances in a state.
func (u *Upstream) Count(s TaskState, setup bool, n int32) {
	u.Total += n
	if setup {
		u.Setups += n
	}
	switch s {
	case Success:
		u.Success += n
		if setup {
			u.SetupSuccess += n
		}
	case Failed:
		u.Failed += n
	case UpstreamFailed:
		u.UpstreamFailed += n
	case Skipped:
		u.Skipped += n
		if setup {
			u.SetupSkipped += n
		}
	case Removed:
		u.Removed += n
	}
}

// Plus is the sum of two counts.
func (u Upstream) Plus(v Upstream) Upstream {
	return Upstream{
		Total: u.Total + v.Total, Success: u.Success + v.Success, Failed: u.Failed + v.Failed,
		UpstreamFailed: u.UpstreamFailed + v.UpstreamFailed, Skipped: u.Skipped + v.Skipped, Removed: u.Removed + v.Removed,
		Setups: u.Setups + v.Setups, SetupSuccess: u.SetupSuccess + v.SetupSuccess, SetupSkipped: u.SetupSkipped + v.SetupSkipped,
	}
}

// Done is how many have finished.
func (u Upstream) Done() int32 { return u.Success + u.failures() + u.Skipped + u.Removed }

func (u Upstream) failures() int32 { return u.Failed + u.UpstreamFailed }

// A Verdict is what a trigger rule says about an instance now.
type Verdict struct {
	// State is None while the instance must wait, Scheduled when it may run, else the final state it gets: Skipped,
	// UpstreamFailed or Removed.
	State TaskState
	// Reason says in words why it gets a final state.
	Reason string
}

var (
	wait    = Verdict{}
	proceed = Verdict{State: Scheduled}
)

func skip(reason string) Verdict { return Verdict{Skipped, reason} }
func fail(reason string) Verdict { return Verdict{UpstreamFailed, reason} }

func proceedIf(ok bool) Verdict {
	if ok {
		return proceed
	}
	return wait
}

const (
	whyFailed       = "an upstream task failed"
	whySkipped      = "an upstream task was skipped"
	whyAllSkipped   = "all upstream tasks were skipped"
	whyNoSuccess    = "no upstream task succeeded"
	whyNotFailed    = "trigger rule all_failed: an upstream task did not fail"
	whyNoFailure    = "trigger rule one_failed: no upstream task failed"
	whyNoneRan      = "trigger rule one_done: no upstream task ran"
	whyNotSkipped   = "trigger rule all_skipped: an upstream task was not skipped"
	whyRemoved      = "every upstream instance was removed"
	whySetupSkipped = "all its setup tasks were skipped"
	whySetupFailed  = "none of its setup tasks succeeded"
	whyScopeFailed  = "a setup task it needs failed"
	whyScopeSkipped = "a setup task it needs was skipped"
)

// JudgeRule applies a trigger rule to what is known of the upstream instances. It decides as early as the rule allows:
// one failed upstream is enough to fail an all_success task, whatever the others still do.
//
// Removed instances are treated as if they had never been; a mapped instance all of whose upstream was removed is removed
// with it.
func JudgeRule(rule dag.TriggerRule, u Upstream, mapped bool) Verdict {
	if u.Total == 0 || rule == dag.Always {
		return proceed
	}
	if u.Removed == u.Total && mapped {
		return Verdict{Removed, whyRemoved}
	}
	judge, known := rules[rule]
	if !known { // Validate lets no such rule pass
		return wait
	}
	return judge(tally{Upstream: u, live: u.Total - u.Removed, failures: u.failures(), done: u.Done() == u.Total})
}

// tally is what the rules ask about.
type tally struct {
	Upstream
	live     int32 // all but the removed
	failures int32 // failed or upstream_failed
	done     bool  // none is left to wait for
}

// rules holds every trigger rule but always. Each first says when the instance will never run, then when it may.
var rules = map[dag.TriggerRule]func(tally) Verdict{
	dag.AllSuccess: func(u tally) Verdict {
		switch {
		case u.failures > 0:
			return fail(whyFailed)
		case u.Skipped > 0:
			return skip(whySkipped)
		}
		return proceedIf(u.Success == u.live)
	},
	dag.AllFailed: func(u tally) Verdict {
		if u.Success+u.Skipped > 0 {
			return skip(whyNotFailed)
		}
		return proceedIf(u.failures == u.live)
	},
	dag.AllDone: func(u tally) Verdict {
		return proceedIf(u.done)
	},
	dag.AllDoneMinOneSuccess: func(u tally) Verdict {
		switch {
		case u.Skipped > 0: // for this rule a skipped task is not done
			return skip(whySkipped)
		case u.done && u.Success == 0:
			return fail(whyNoSuccess)
		}
		return proceedIf(u.done)
	},
	dag.AllDoneSetupSuccess: func(u tally) Verdict {
		switch {
		case u.done && u.Setups > 0 && u.SetupSkipped >= u.Setups:
			return skip(whySetupSkipped)
		case u.done && u.Setups > 0 && u.SetupSuccess == 0:
			return fail(whySetupFailed)
		}
		return proceedIf(u.done)
	},
	dag.OneSuccess: func(u tally) Verdict {
		switch {
		case u.done && u.Skipped == u.live:
			return skip(whyAllSkipped)
		case u.done && u.Success == 0:
			return fail(whyNoSuccess)
		}
		return proceedIf(u.Success > 0)
	},
	dag.OneFailed: func(u tally) Verdict {
		if u.done && u.failures == 0 {
			return skip(whyNoFailure)
		}
		return proceedIf(u.failures > 0)
	},
	dag.OneDone: func(u tally) Verdict {
		if u.done && u.Success+u.Failed == 0 {
			return skip(whyNoneRan)
		}
		return proceedIf(u.Success+u.Failed > 0)
	},
	dag.NoneFailed: func(u tally) Verdict {
		if u.failures > 0 {
			return fail(whyFailed)
		}
		return proceedIf(u.Success+u.Skipped == u.live)
	},
	dag.NoneFailedMinOneSuccess: func(u tally) Verdict {
		switch {
		case u.failures > 0:
			return fail(whyFailed)
		case u.Skipped == u.live:
			return skip(whyAllSkipped)
		}
		return proceedIf(u.Success+u.Skipped == u.live)
	},
	dag.NoneSkipped: func(u tally) Verdict {
		if u.Skipped > 0 {
			return skip(whySkipped)
		}
		return proceedIf(u.done)
	},
	dag.AllSkipped: func(u tally) Verdict {
		if u.Success+u.failures > 0 {
			return skip(whyNotSkipped)
		}
		return proceedIf(u.Skipped == u.live)
	},
}

// JudgeSetups applies the rule of setup scopes: all setups a task needs without waiting for them directly must succeed.
// It comes before the trigger rule.
func JudgeSetups(u Upstream) Verdict {
	switch {
	case u.failures() > 0:
		return fail(whyScopeFailed)
	case u.Skipped > 0:
		return skip(whyScopeSkipped)
	}
	return proceedIf(u.Success+u.Removed == u.Total)
}

// maxNames is how many upstream tasks a sentence names.
const maxNames = 3

// ExplainRule says in words what an instance waits for. pending names the upstream tasks that have not finished.
func ExplainRule(rule dag.TriggerRule, u Upstream, pending []string) string {
	s := fmt.Sprintf("waiting for %d of %d upstream tasks: %s", u.Total-u.Done(), u.Total, names(pending))
	if u.Total == 1 {
		s = "waiting for the upstream task " + names(pending)
	}
	if len(pending) == 0 { // every upstream task finished and yet the rule is not met
		s = fmt.Sprintf("its %d upstream tasks have finished", u.Total)
	}
	if rule != dag.AllSuccess {
		s += fmt.Sprintf(" (trigger rule %s)", rule)
	}
	return s
}

func names(ids []string) string {
	if len(ids) > maxNames {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:maxNames], ", "), len(ids)-maxNames)
	}
	return strings.Join(ids, ", ")
}
