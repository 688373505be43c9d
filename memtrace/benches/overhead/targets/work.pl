# Hashes, strings, regular expressions and closures until it is killed.
use strict;
use warnings;

$| = 1;
print "ready\n";

sub words { my ($round) = @_; return map { sprintf("%x-%d", $round * 31 % 997, $_) } 1 .. 300; }

my @kept;
for (my $round = 0; ; $round++) {
    my %count;
    $count{uc $_}++ for words($round);
    my $text = join ",", sort { $a cmp $b } keys %count;
    my @found = ($text =~ /([0-9A-F]+)-(\d+)/g);
    my @closures = map { my $kept = "$_" x 5; sub { length $kept } } @found;
    push @kept, { text => $text, total => eval { my $sum = 0; $sum += $_->() for @closures; $sum } };
    shift @kept if @kept > 20;
}
