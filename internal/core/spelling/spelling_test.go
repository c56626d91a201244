package spelling

import "testing"

func TestTheNearestNameIsTheOneWithTheFewestSlips(t *testing.T) {
	for _, c := range []struct {
		name, want string
		known      []string
	}{
		{"gpus", "gpu", []string{"etl", "gpu"}},
		{"gpus", "gpu", []string{"gpu", "etl"}},
		{"trian", "train", []string{"brain", "train"}},
		{"brain", "train", []string{"trainy", "train"}},
		{"elt", "etl", []string{"ml_pipeline", "etl"}},
		{"zebra", "", []string{"gpu", "train"}},
		{"xyz", "", []string{"etl"}},
		{"a", "", []string{"c", "b"}},
		{"x", "", nil},
		{"", "", []string{"", "a", "ab"}},
	} {
		if got := Nearest(c.name, c.known); got != c.want {
			t.Errorf("%q among %q: %q, want %q", c.name, c.known, got, c.want)
		}
	}
}

func TestCaseAndAccentsAreOneSlipAtMost(t *testing.T) {
	for name, want := range map[string]string{"FRAUD": "Fraud", "zähler": "Zahler", "日本誤": "日本語"} {
		if got := Nearest(name, []string{"Fraud", "Zahler", "日本語"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestTheBeginningOfANameStandsForTheWhole(t *testing.T) {
	known := []string{"fraud_detection_training", "fraud_report", "ml_pipeline"}
	for name, want := range map[string]string{"fraud_d": "fraud_detection_training", "fraud": "fraud_detection_training", "ml": ""} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestTheAnswerDoesNotDependOnTheOrder(t *testing.T) {
	for _, known := range [][]string{{"load_a", "load_b"}, {"load_b", "load_a"}} {
		if got := Nearest("load_c", known); got != "load_a" {
			t.Errorf("among %q: %q", known, got)
		}
	}
}

func TestASwapOfNeighboursIsOneSlip(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"port", "prot", 1}, {"port", "port", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
