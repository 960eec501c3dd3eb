"""What several losses share: margins, cosines of a batch, banks of features, the cluster store."""
